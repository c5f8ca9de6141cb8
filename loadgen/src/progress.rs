//! Progress bars on standard error; hidden when it is not a terminal.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// How far, of how much.
const OF_ALL: &str = "{prefix:10} {bar:40} {pos}/{len} keys, {rate}, {eta}";
/// How far, for how long.
const SO_FAR: &str = "{prefix:10} {spinner} {pos} keys, {rate}, {elapsed}";

/// A bar over `keys`, named by what is being done; without their number, it only counts.
pub fn bar(name: &'static str, keys: Option<u64>) -> ProgressBar {
    let (bar, template) = match keys {
        Some(keys) => (ProgressBar::new(keys), OF_ALL),
        None => (ProgressBar::no_length(), SO_FAR),
    };
    let style = ProgressStyle::with_template(template);
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        write!(out, "{:.0}/s", state.per_sec()).ok();
    };
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.with_key("rate", rate))
        .with_prefix(name)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a bar shows after 1500 keys.
    fn shown(keys: Option<u64>) -> String {
        let screen = Screen::default();
        let bar = bar("verifying", keys);
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        bar.set_position(1500);
        bar.force_draw();
        let shown = screen.0.lock().unwrap();
        shown.clone()
    }

    #[test]
    fn shows_how_far_it_is_of_all_keys() {
        let shown = shown(Some(6000));
        assert!(shown.contains("1500/6000 keys"), "{shown}");
    }

    #[test]
    fn only_counts_when_it_is_not_known_how_many_keys_there_are() {
        let shown = shown(None);
        assert!(shown.contains(" 1500 keys"), "{shown}");
        assert!(!shown.contains("/0") && !shown.contains("1500/"), "{shown}");
    }
}
