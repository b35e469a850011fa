//! What surrounds every page: the way to the others, addresses with the token where links need it.

use crate::serve::params::address;
use crate::serve::problem::Problem;
use crate::serve::site::Site;
use sae_core::analysis::dashboard::html::{Document, Markup, tag};

/// What a page needs to refer to others.
pub struct Shell {
    /// The token, where links have to carry it because a browser keeps no cookie, as in a frame of another site.
    pub linked: Option<String>,
    /// The token, for forms.
    pub token: String,
    /// The name of the run's folder.
    run: String,
    contrasts: Vec<String>,
    /// The path of this page.
    here: String,
}

impl Shell {
    /// The shell of a page.
    pub fn new(site: &Site, here: &str, is_linked: bool) -> Self {
        let token = site.token.reveal().to_owned();
        let run = site.run.root();
        let run = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
        Self {
            linked: is_linked.then(|| token.clone()),
            token,
            run: run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            contrasts: site.contrasts(),
            here: here.to_owned(),
        }
    }

    /// An address of this server.
    pub fn to(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let token = ("token", self.linked.as_deref().unwrap_or_default());
        address(path, &[parameters, &[token]].concat())
    }

    /// A link.
    pub fn link(&self, path: &str, parameters: &[(&str, &str)], text: &str) -> Markup {
        tag("a").attr("href", self.to(path, parameters)).text(text)
    }

    /// A link to a feature.
    pub fn feature(&self, feature: u32) -> Markup {
        self.link(&format!("/f/{feature}"), &[], &feature.to_string())
    }

    /// A link to a sample.
    pub fn sample(&self, sample: u32, text: &str) -> Markup {
        self.link(&format!("/s/{sample}"), &[], text)
    }

    /// The address of an image.
    pub fn image(&self, sample: u32, image: usize) -> String {
        self.to(&format!("/image/{sample}/{image}"), &[])
    }

    /// The token in a form whose answer is an address: a browser drops the query of the form's own address.
    pub fn hidden_token(&self) -> Markup {
        let token = self.linked.as_ref();
        token.map(|token| hidden("token", token)).into()
    }

    /// The whole document.
    pub fn document(&self, title: &str, main: Markup) -> String {
        let pages = [("/features", "Features"), ("/filter", "Filter"), ("/run", "Run")]
            .map(|(path, name)| (path.into(), name.into()));
        let contrasts = self.contrasts.iter().map(|name| (format!("/contrast/{name}"), format!("Contrast {name}")));
        let links = pages.into_iter().chain(contrasts).map(|(path, name): (String, String)| {
            let current = (path == self.here).then_some("page");
            tag("a").attr("href", self.to(&path, &[])).maybe("aria-current", current).text(&name)
        });
        let skip = tag("a").class("skip").attr("href", "#main").text("Skip to the page");
        let run = tag("span").class("muted").text(&self.run);
        let links = Markup::joined(links, " ");
        let navigation = tag("nav").class("top").attr("aria-label", "Pages").of(skip.and(links).and(" ").and(run));
        let script = tag("script").attr("src", self.to("/serve.js", &[])).attr("defer", "").empty();
        // Without this, a browser asks for an icon that there is none of.
        let icon = tag("link").attr("rel", "icon").attr("href", "data:,").empty();
        let title = format!("{title} - {}", self.run);
        Document { title: &title, policy: None, head: icon.and(script), navigation, main }.render()
    }

    /// The page in place of one that cannot be shown.
    pub fn problem(&self, problem: &Problem) -> String {
        let message = tag("p").class("notice problem").attr("role", "alert").text(&problem.to_string());
        self.document(problem.title(), tag("h1").text(problem.title()).and(message))
    }
}

/// A field of a form that is not shown.
pub fn hidden(name: &str, value: &str) -> Markup {
    tag("input").attr("type", "hidden").attr("name", name).attr("value", value).empty()
}
