//! The views of features as HTML, for exported files and for the server: one renderer, which does not know which of the two it
//! works for. All text of the data set is escaped. Pages have no external links, and exported ones no scripts either; their content
//! security policy forbids both.

mod excerpt;
mod feature;
mod list;
mod markup;

pub use excerpt::excerpt;
pub use feature::{examples, feature};
pub use list::{Line, list};
pub use markup::{Column, Element, Markup, table, tag};

use base64::Engine as _;
use std::fmt::Write;

/// The style sheet of all pages.
pub const STYLE: &str = include_str!("style.css");

/// Where a page finds what it refers to. What is nothing is not linked.
pub struct Links<'a> {
    /// The page of a feature.
    pub feature: &'a dyn Fn(u32) -> Option<String>,
    /// The page of a sample.
    pub sample: &'a dyn Fn(u32) -> Option<String>,
    /// An image, by the numbers of its sample and of the image in it: an address, or why it cannot be shown.
    pub image: &'a dyn Fn(u32, usize) -> Result<String, String>,
}

/// A page of its own.
pub struct Document<'a> {
    /// The title of the window.
    pub title: &'a str,
    /// The content security policy in the file itself; nothing if the server sends one.
    pub policy: Option<&'static str>,
    /// What else the head has.
    pub head: Markup,
    /// What stands before the page: the way to others.
    pub navigation: Markup,
    /// The page.
    pub main: Markup,
}

/// The policy of a file that is opened without a server: images in the file and its own style, and nothing else.
pub const FILE_POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

impl Document<'_> {
    /// The whole file.
    pub fn render(&self) -> String {
        let policy = self
            .policy
            .map(|policy| tag("meta").attr("http-equiv", "Content-Security-Policy").attr("content", policy).empty());
        let head = tag("meta").attr("charset", "utf-8").empty().and(policy);
        let head = head.and(tag("meta").attr("name", "viewport").attr("content", "width=device-width").empty());
        let head = head.and(tag("title").text(self.title)).and(self.head.clone());
        let body = self.navigation.clone().and(tag("main").attr("id", "main").of(self.main.clone()));
        let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n");
        // Writing into a string cannot fail. The style is the program's own text, not the data's.
        let _ = write!(out, "{head}\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n");
        out
    }
}

/// Bytes as base64.
fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The address of an image that is in the page itself. `kind` is its type, such as `image/png`.
pub fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", base64(bytes))
}
