//! The layers of the engine, as ARCHITECTURE.md draws them.

use std::collections::BTreeMap;

use crate::modules::Graph;

const HEADING: &str = "## Layers of the engine";

/// Which layer each module is in; the lowest has the highest number.
#[derive(Debug)]
pub(crate) struct Layers(BTreeMap<String, usize>);

impl Layers {
    /// Reads the drawing under its heading: one line per layer, the uppermost first, with its name
    /// and its modules between bars.
    pub(crate) fn of_drawing(document: &str) -> Self {
        let section = document.split(HEADING).nth(1).expect("there is a drawing");
        let drawing = section
            .split("```")
            .nth(1)
            .expect("the drawing is a code block");
        let mut layers = BTreeMap::new();
        for (depth, line) in drawing.lines().enumerate() {
            let Some(modules) = line.split('│').nth(2) else {
                continue;
            };
            for module in modules.split_whitespace() {
                let before = layers.insert(module.to_owned(), depth);
                assert!(before.is_none(), "{module} is drawn twice");
            }
        }
        assert!(!layers.is_empty(), "the drawing has layers");
        Self(layers)
    }

    /// How a crate differs from the drawing. The root only re-exports.
    pub(crate) fn offences(&self, graph: &Graph) -> Vec<String> {
        let mut offences = Vec::new();
        for (module, used) in graph.iter().filter(|(module, _)| !module.is_empty()) {
            let Some(own) = self.0.get(module) else {
                offences.push(format!("{module} is in no layer"));
                continue;
            };
            for used in used {
                if self.0.get(used).is_none_or(|layer| layer <= own) {
                    offences.push(format!("{module} uses {used}, which is not below it"));
                }
            }
        }
        let missing = self.0.keys().filter(|module| !graph.contains_key(*module));
        offences.extend(missing.map(|module| format!("{module} is drawn and not there")));
        offences
    }
}
