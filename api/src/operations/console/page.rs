//! The files of the page. Each is a resource of its own, so that the policy of the port allows no script and
//! no style inside a page.

use axum::body::Body;
use http::Response;

use crate::openapi::describe;
use crate::response;

/// The page itself.
const HTML: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/console.js");
const CHARTS: &str = include_str!("page/charts.js");
const ELEMENTS: &str = include_str!("page/elements.js");
const STYLE: &str = include_str!("page/console.css");
/// The charts: uPlot 1.6.32, as npm has it, behind its licence.
const UPLOT: &str = concat!(
    "/*\n",
    include_str!("page/uplot/LICENSE"),
    "*/\n",
    include_str!("page/uplot/uPlot.iife.min.js")
);
const UPLOT_STYLE: &str = include_str!("page/uplot/uPlot.min.css");

pub(in crate::operations) async fn html() -> Response<Body> {
    response::text(describe::HTML, HTML)
}

pub(in crate::operations) async fn script() -> Response<Body> {
    response::text(describe::SCRIPT, SCRIPT)
}

pub(in crate::operations) async fn charts() -> Response<Body> {
    response::text(describe::SCRIPT, CHARTS)
}

pub(in crate::operations) async fn elements() -> Response<Body> {
    response::text(describe::SCRIPT, ELEMENTS)
}

pub(in crate::operations) async fn style() -> Response<Body> {
    response::text(describe::STYLE, STYLE)
}

pub(in crate::operations) async fn uplot() -> Response<Body> {
    response::text(describe::SCRIPT, UPLOT)
}

pub(in crate::operations) async fn uplot_style() -> Response<Body> {
    response::text(describe::STYLE, UPLOT_STYLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts() -> impl Iterator<Item = &'static str> {
        [SCRIPT, CHARTS, ELEMENTS].into_iter()
    }

    #[test]
    fn vendors_the_charts_as_they_were_published() {
        // As in uplot-1.6.32.tgz.
        let digest = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let script = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f";
        let (licence, code) = UPLOT.split_once("*/\n").unwrap();
        assert_eq!(digest(code), script);
        assert!(licence.starts_with("/*\nThe MIT License") && licence.contains("Leon Sorokin"));
        let style = "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04";
        assert_eq!(digest(UPLOT_STYLE), style);
    }

    #[test]
    fn has_nothing_inline_and_nothing_from_elsewhere() {
        for forbidden in ["<style", " style=", "javascript:", "http:", "https:", "//"] {
            assert!(!HTML.contains(forbidden), "{forbidden}");
        }
        let scripts_count = HTML.matches("<script").count();
        assert_eq!(scripts_count, HTML.matches("<script src=\"/").count());
        for attribute in ["onclick=", "onload=", "onerror=", "onchange=", "onsubmit="] {
            assert!(!HTML.contains(attribute), "{attribute}");
        }
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(
                scripts().all(|script| !script.contains(forbidden)),
                "{forbidden}"
            );
        }
        // The only address is the name of a namespace.
        let addresses = scripts().map(|script| script.matches("http:").count());
        assert_eq!(addresses.sum::<usize>(), 1);
        assert!(scripts().all(|script| !script.contains("https:")));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn finds_in_the_page_what_the_script_asks_for() {
        for part in scripts().flat_map(|script| script.split("byId(\"").skip(1)) {
            let id = part.split('"').next().unwrap();
            assert!(HTML.contains(&format!("id=\"{id}\"")), "{id}");
        }
        for part in HTML.split("aria-labelledby=\"").skip(1) {
            let id = part.split('"').next().unwrap();
            assert!(HTML.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }

    /// The colours of a scheme by name, as `--ink: #17202a;`.
    fn colors(block: &str) -> std::collections::HashMap<&str, [f64; 3]> {
        let lines = block.split(['{', ';', '}']).map(str::trim);
        let pairs = lines.filter_map(|line| line.strip_prefix("--")?.split_once(": #"));
        pairs
            .map(|(name, hex)| {
                let at =
                    |from: usize| f64::from(u8::from_str_radix(&hex[from..from + 2], 16).unwrap());
                (name, [at(0), at(2), at(4)])
            })
            .collect()
    }

    /// WCAG 2.2, "relative luminance".
    fn luminance(color: [f64; 3]) -> f64 {
        let linear = color.map(|part| {
            let part = part / 255.0;
            match part <= 0.04045 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    #[test]
    fn has_enough_contrast_in_both_schemes() {
        let mut schemes = STYLE.split(":root {").skip(1);
        for scheme in ["light", "dark"] {
            let colors = colors(schemes.next().unwrap().split_once('}').unwrap().0);
            let contrast = |a: &str, b: &str| {
                let (a, b) = (luminance(colors[a]), luminance(colors[b]));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            let texts = [
                ("ink", "page"),
                ("ink", "card"),
                ("soft", "page"),
                ("soft", "card"),
                ("ink", "grid"),
                ("accent", "page"),
                ("accent", "card"),
                ("good", "good-back"),
                ("warn", "warn-back"),
                ("bad", "bad-back"),
                ("warn", "card"),
                ("bad", "card"),
                ("good", "card"),
            ];
            for (text, back) in texts {
                let found = contrast(text, back);
                assert!(found >= 4.5, "{scheme}: {text} on {back} has {found:.2}");
            }
            for line in ["accent", "second", "third", "focus"] {
                let found = contrast(line, "card");
                assert!(found >= 3.0, "{scheme}: {line} on card has {found:.2}");
            }
        }
    }
}
