//! Bars in SVG, nothing else.

use std::fmt::Write as _;

/// A bar: what it is called, its value, and the mark that it is measured against.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) mark: Option<f64>,
}

const ROW: f64 = 22.0;
const LABEL: f64 = 260.0;
const LENGTH: f64 = 420.0;
const NUMBER: f64 = 110.0;
const TOP: f64 = 44.0;

/// Horizontal bars, each with its number; a tick where its mark is.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let most = bars
        .iter()
        .flat_map(|bar| [Some(bar.value), bar.mark])
        .flatten()
        .filter(|value| value.is_finite())
        .fold(f64::MIN_POSITIVE, f64::max);
    let rows = u16::try_from(bars.len()).map_or(0.0, f64::from);
    let (width, height) = (LABEL + LENGTH + NUMBER, TOP + ROW * rows + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">{} ({})</text>\n",
        escaped(title),
        escaped(unit)
    );
    for (row, bar) in (0u16..).zip(bars) {
        let y = TOP + ROW * f64::from(row);
        let long = |value: f64| (value / most * LENGTH).clamp(0.0, LENGTH);
        let written = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{:.0}\" width=\"{:.1}\" height=\"14\" fill=\"#4477aa\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{}</text>\n{}",
            LABEL - 8.0,
            y + 12.0,
            escaped(&bar.label),
            y + 1.0,
            long(bar.value),
            LABEL + LENGTH + 6.0,
            y + 12.0,
            short(bar.value),
            bar.mark.map_or_else(String::new, |mark| {
                let x = LABEL + long(mark);
                format!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" stroke=\"#cc3311\" \
                     stroke-width=\"2\"/>\n",
                    y - 2.0,
                    y + 18.0
                )
            })
        );
        written.expect("a string takes whatever is written to it");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_the_longest_bar_over_the_whole_length() {
        let bar = |label: &str, value| Bar {
            label: label.to_owned(),
            value,
            mark: None,
        };
        let svg = bars("a < b", "keys/s", &[bar("x", 50.0), bar("y", 100.0)]);
        assert!(svg.contains("width=\"210.0\"") && svg.contains("width=\"420.0\""));
        assert!(svg.contains("a &lt; b (keys/s)"));
    }
}
