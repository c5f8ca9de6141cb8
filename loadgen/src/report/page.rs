//! A self-contained page: inline styles and drawings, no scripts.

use std::fmt::Write as _;

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

    /// A table of plain texts. Columns after the first are numbers unless `words` says otherwise.
    pub fn table(&mut self, table: &Table) {
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
        match column == 0 || self.words.contains(&column) {
            true => "",
            false => " class=\"n\"",
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
