//! A sentence that tells an operator what to see to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attention::{Finding, Severity};

/// Something to see to.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub(super) struct Sentence {
    #[serde(with = "severity")]
    #[schemars(with = "String", extend("enum" = ["error", "warning"]))]
    pub(super) severity: Severity,
    /// With what to do, and a full stop.
    pub(super) text: String,
}

impl Sentence {
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self::new(Severity::Error, text.into())
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, text.into())
    }

    /// Begins with a capital, ends with a full stop.
    fn new(severity: Severity, mut text: String) -> Self {
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        if !text.ends_with(['.', '!', '?']) {
            text.push('.');
        }
        Self { severity, text }
    }

    /// Cuts it where it is too long.
    pub(super) fn cut(&mut self, bytes_max: usize) {
        if self.text.len() > bytes_max {
            let end = (0..=bytes_max)
                .rev()
                .find(|at| self.text.is_char_boundary(*at));
            self.text.truncate(end.unwrap_or_default());
            self.text.push('…');
        }
    }
}

impl From<Finding> for Sentence {
    fn from(finding: Finding) -> Self {
        Self::new(finding.severity, finding.text)
    }
}

mod severity {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::attention::Severity;

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(severity: &Severity, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Severity, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.as_str() {
            "error" => Severity::Error,
            _ => Severity::Warning,
        })
    }
}
