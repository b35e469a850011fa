//! Markup that is well-formed by construction: elements are closed, text and attributes are escaped. Knows nothing of features.

use std::fmt::{self, Display, Write};

/// Elements that have no content and no end tag.
const VOID: [&str; 6] = ["br", "hr", "img", "input", "link", "meta"];

/// A sequence of texts and elements.
///
/// ```
/// use sae_core::analysis::dashboard::html::{Markup, tag};
///
/// let link = tag("a").attr("href", "/f/12?token=a&b").text("red <ring>");
/// assert_eq!(link.to_string(), "<a href=\"/f/12?token=a&amp;b\">red &lt;ring&gt;</a>");
/// assert_eq!(tag("p").of(Markup::text("see ").and(link)).to_string().matches("</").count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A text, escaped.
    pub fn text(text: &str) -> Self {
        let mut out = Self::new();
        out.escape(text);
        out
    }

    /// This and then something else.
    pub fn and(mut self, next: impl Into<Self>) -> Self {
        self.push(next);
        self
    }

    /// Adds something at the end.
    pub fn push(&mut self, next: impl Into<Self>) {
        self.0 += &next.into().0;
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parts with a text between them.
    pub fn joined(parts: impl IntoIterator<Item = Self>, between: &str) -> Self {
        let mut out = Self::new();
        for (n, part) in parts.into_iter().enumerate() {
            if n > 0 {
                out.escape(between);
            }
            out.push(part);
        }
        out
    }

    fn escape(&mut self, text: &str) {
        for sign in text.chars() {
            match sign {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                sign => self.0.push(sign),
            }
        }
    }
}

impl Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Markup {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Markup {
    fn from(text: String) -> Self {
        Self::text(&text)
    }
}

impl From<Option<Markup>> for Markup {
    fn from(markup: Option<Markup>) -> Self {
        markup.unwrap_or_default()
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(parts: I) -> Self {
        let mut out = Self::new();
        parts.into_iter().for_each(|part| out.push(part));
        out
    }
}

/// An element that is being built: its name and attributes.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    open: Markup,
}

/// Begins an element. [`Element::of`] or [`Element::text`] gives it its content.
pub fn tag(name: &'static str) -> Element {
    Element { name, open: Markup(format!("<{name}")) }
}

impl Element {
    /// Sets an attribute.
    pub fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        // Writing into a string cannot fail.
        let _ = write!(self.open.0, " {name}=\"");
        self.open.escape(&value.to_string());
        self.open.0.push('"');
        self
    }

    /// Sets an attribute if there is a value.
    pub fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Sets an attribute that has no value, such as `checked`, if it holds.
    pub fn flag(self, name: &'static str, holds: bool) -> Self {
        self.maybe(name, holds.then_some(""))
    }

    /// Sets the class.
    pub fn class(self, class: &str) -> Self {
        self.attr("class", class)
    }

    /// The element with its content. Elements that cannot have any are left without.
    pub fn of(self, content: impl Into<Markup>) -> Markup {
        let Self { name, open: Markup(mut out) } = self;
        out.push('>');
        if !VOID.contains(&name) {
            out += &content.into().0;
            // Writing into a string cannot fail.
            let _ = write!(out, "</{name}>");
        }
        if matches!(name, "p" | "li" | "tr" | "div" | "section" | "table" | "h1" | "h2" | "meta" | "g") {
            out.push('\n');
        }
        Markup(out)
    }

    /// The element with a text.
    pub fn text(self, text: &str) -> Markup {
        self.of(Markup::text(text))
    }

    /// The element without content.
    pub fn empty(self) -> Markup {
        self.of(Markup::new())
    }
}

impl From<Element> for Markup {
    fn from(element: Element) -> Self {
        element.empty()
    }
}

/// A column of a [`table`].
pub struct Column {
    /// What its head has.
    pub head: Markup,
    /// Whether its cells are numbers.
    pub is_number: bool,
    /// The order of the rows by it, if they are sorted by it: `ascending` or `descending`.
    pub sorted: Option<&'static str>,
}

impl Column {
    /// A column of texts.
    pub fn text(head: impl Into<Markup>) -> Self {
        Self { head: head.into(), is_number: false, sorted: None }
    }

    /// A column of numbers.
    pub fn number(head: impl Into<Markup>) -> Self {
        Self { is_number: true, ..Self::text(head) }
    }
}

/// A table with a head, which scrolls on its own where the window is too narrow. `caption` says what it has.
pub fn table(caption: &str, columns: &[Column], rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    let number = |column: &Column| column.is_number.then_some("n");
    let head = columns.iter().map(|column| {
        let head = tag("th").attr("scope", "col").maybe("class", number(column)).maybe("aria-sort", column.sorted);
        head.of(column.head.clone())
    });
    let row = |cells: Vec<Markup>| {
        let cells = columns.iter().zip(cells).map(|(column, cell)| tag("td").maybe("class", number(column)).of(cell));
        tag("tr").of(cells.collect::<Markup>())
    };
    let head = tag("thead").of(tag("tr").of(head.collect::<Markup>()));
    let body = tag("tbody").of(rows.into_iter().map(row).collect::<Markup>());
    // The region can be scrolled with the keyboard.
    let region = tag("div").class("scroll").attr("tabindex", 0).attr("role", "region").attr("aria-label", caption);
    region.of(tag("table").of(tag("caption").text(caption).and(head).and(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped_and_elements_closed() {
        assert_eq!(Markup::text("<a href=\"x\">'&").to_string(), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        let image = tag("img").attr("alt", "\"<'>").of("ignored");
        assert_eq!(image.to_string(), "<img alt=\"&quot;&lt;&#39;&gt;\">");
        let list: Markup = ["a", "b"].into_iter().map(|text| tag("li").text(text)).collect();
        assert_eq!(tag("ul").of(list).to_string(), "<ul><li>a</li>\n<li>b</li>\n</ul>");
        let flags = tag("input").flag("checked", true).flag("disabled", false);
        assert_eq!(flags.empty().to_string(), "<input checked=\"\">");
        assert_eq!(Markup::joined(["a", "b"].map(Markup::text), " & ").to_string(), "a &amp; b");
    }
}
