//! A self-contained page: inline styles and drawings, no scripts.

use std::fmt::Write as _;
use std::ops::Range;

/// Colours follow the reader's choice of light or dark; a print is light. The colours of series are
/// Okabe and Ito's, which people with any kind of colour vision distinguish; drawings name them by
/// their light value, and the style replaces that in the dark.
const STYLE: &str = include_str!("style.css");

/// A page: its title, and what is in it.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a heading.
    pub fn new(title: &str) -> Self {
        let body = format!("<h1>{}</h1>\n", escape(title));
        Self {
            title: title.to_owned(),
            body,
        }
    }

    /// A heading of a section.
    pub fn section(&mut self, title: &str) {
        self.raw(&format!("<h2>{}</h2>\n", escape(title)));
    }

    /// A heading within a section.
    pub fn subsection(&mut self, title: &str) {
        self.raw(&format!("<h3>{}</h3>\n", escape(title)));
    }

    /// A paragraph of plain text.
    pub fn text(&mut self, text: &str) {
        self.raw(&format!("<p>{}</p>\n", escape(text)));
    }

    /// A small paragraph, for details.
    pub fn small(&mut self, text: &str) {
        self.raw(&format!("<p class=\"small\">{}</p>\n", escape(text)));
    }

    /// Preformatted text.
    pub fn preformatted(&mut self, text: &str) {
        self.raw(&format!("<pre>{}</pre>\n", escape(text)));
    }

    /// A highlighted list of plain texts.
    pub fn answer<T: AsRef<str>>(&mut self, lines: &[T]) {
        self.raw("<ul class=\"answer\">\n");
        for line in lines {
            self.raw(&format!("<li>{}</li>\n", escape(line.as_ref())));
        }
        self.raw("</ul>\n");
    }

    /// The verdicts that the page begins with: met, not met, or neither.
    pub fn verdicts(&mut self, lines: &[(Option<bool>, String)]) {
        self.raw("<ul class=\"answer\">\n");
        for (met, line) in lines {
            let class = match met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "open",
            };
            self.raw(&format!("<li class=\"{class}\">{}</li>\n", escape(line)));
        }
        self.raw("</ul>\n");
    }

    /// A table of plain texts. Columns after the first are numbers unless `words` says otherwise.
    /// One that is too wide for a sheet of paper is divided; each part begins with the first column.
    pub fn table(&mut self, table: &Table) {
        for part in table.parts() {
            self.whole_table(&part);
        }
    }

    fn whole_table(&mut self, table: &Table) {
        self.raw("<div class=\"wide\"><table>\n");
        if !table.head.is_empty() {
            self.raw("<thead><tr>");
            for (column, name) in table.head.iter().enumerate() {
                self.raw(&format!("<th{}>{}</th>", table.class(column), escape(name)));
            }
            self.raw("</tr></thead>\n");
        }
        self.raw("<tbody>\n");
        for row in &table.rows {
            self.raw("<tr>");
            for (column, cell) in row.iter().enumerate() {
                self.raw(&format!("<td{}>{}</td>", table.class(column), escape(cell)));
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table></div>\n");
    }

    /// A drawing under its caption and, when there is more than one series, what each colour means.
    pub fn figure(&mut self, caption: &str, legend: &[String], svg: &str) {
        self.raw(&format!(
            "<figure>\n<figcaption>{}</figcaption>\n",
            escape(caption)
        ));
        if legend.len() > 1 {
            self.raw("<p class=\"legend\">");
            for (index, name) in legend.iter().enumerate() {
                let colour = index % COLOURS;
                self.raw(&format!(
                    "<span><i class=\"s{colour}\"></i>{}</span> ",
                    escape(name)
                ));
            }
            self.raw("</p>\n");
        }
        // Within HTML a drawing needs no namespace, and the page names no address at all.
        self.raw(&svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""));
        self.raw("</figure>\n");
    }

    /// The whole document.
    pub fn finish(self) -> String {
        let Self { title, body } = self;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
            escape(&title)
        )
    }

    fn raw(&mut self, html: &str) {
        self.body.push_str(html);
    }
}

/// Columns beside the first that fit on a sheet of A4.
const COLUMNS_MAX: usize = 10;

/// How many series have a colour of their own.
pub(super) const COLOURS: usize = 7;

/// A table of plain texts.
#[derive(Debug, Default)]
pub struct Table {
    /// Names of the columns; may be empty.
    pub head: Vec<String>,
    /// Row by row.
    pub rows: Vec<Vec<String>>,
    /// Columns that hold words, beside the first.
    pub words: Vec<usize>,
}

impl Table {
    /// A table with these columns.
    pub fn new<T: AsRef<str>>(head: &[T], words: &[usize]) -> Self {
        Self {
            head: head.iter().map(|name| name.as_ref().to_owned()).collect(),
            rows: Vec::new(),
            words: words.to_vec(),
        }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn class(&self, column: usize) -> &'static str {
        match column {
            0 => "",
            _ if self.words.contains(&column) => " class=\"w\"",
            _ => " class=\"n\"",
        }
    }

    /// Without the columns in which no row has anything but `absent`.
    pub fn without_empty_columns(mut self, absent: &str) -> Self {
        for column in (1..self.head.len()).rev() {
            let is_empty = |row: &Vec<String>| row.get(column).is_none_or(|cell| cell == absent);
            if self.rows.iter().all(is_empty) {
                self.head.remove(column);
                for row in self.rows.iter_mut().filter(|row| row.len() > column) {
                    row.remove(column);
                }
                self.words.retain(|words| *words != column);
                for words in self.words.iter_mut().filter(|words| **words > column) {
                    *words -= 1;
                }
            }
        }
        self
    }

    /// Tables of at most [`COLUMNS_MAX`] columns beside the first, of about the same width.
    pub(super) fn parts(&self) -> Vec<Self> {
        let columns = self.rows.iter().chain([&self.head]).map(Vec::len).max();
        let data = columns.unwrap_or(0).saturating_sub(1);
        let count = data.div_ceil(COLUMNS_MAX).max(1);
        let width = data.div_ceil(count).max(1);
        (0..count)
            .map(|part| self.columns(part * width + 1..(part + 1) * width + 1))
            .collect()
    }

    /// The first column and these.
    fn columns(&self, taken: Range<usize>) -> Self {
        let cells = |row: &Vec<String>| {
            let cells = row.iter().enumerate();
            let kept = cells.filter(|(column, _)| *column == 0 || taken.contains(column));
            kept.map(|(_, cell)| cell.clone()).collect()
        };
        let words = self.words.iter().filter(|column| taken.contains(column));
        Self {
            head: cells(&self.head),
            rows: self.rows.iter().map(cells).collect(),
            words: words.map(|column| column - taken.start + 1).collect(),
        }
    }
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Control characters are not allowed in XML; a command line may have any.
            c if c.is_control() && c != '\n' => {
                let _infallible = write!(escaped, "\u{fffd}");
            }
            c => escaped.push(c),
        }
    }
    escaped
}
