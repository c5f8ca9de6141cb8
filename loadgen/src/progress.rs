//! Progress bars on standard error; hidden when it is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `keys`, named by what is being done.
pub fn bar(name: &'static str, keys: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix:10} {bar:40} {pos}/{len} keys, {per_sec}, {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(keys).with_style(style).with_prefix(name)
}
