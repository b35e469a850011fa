//! Links into a run, `sae://RUN/f/1234` (a feature), `sae://RUN/s/12` (a sample), `sae://RUN/?page=filter`: the same string
//! opens it from the command line, from a note and from a
//! colleague's message. Touches no file.

use super::location::{Location, Page};
use sae_core::path_text::percent_encode;
use std::fmt::{self, Display};
use std::path::PathBuf;

const SCHEME: &str = "sae://";

/// A run, and perhaps an autoencoder and a place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The run folder.
    pub run: PathBuf,
    /// Name of the autoencoder; the first indexed one if there is no name.
    pub sae: Option<String>,
    /// What to show.
    pub place: Option<Location>,
    /// A text to try, on the page for that.
    pub text: Option<String>,
    /// Features to set to their maximum there.
    pub set: Vec<u32>,
}

impl Link {
    /// Reads a link, or a plain path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Ok(Self { run: text.into(), ..Self::default() });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (run, place) = split(path, text)?;
        let mut link = Self { run: decode(run)?.into(), sae: None, place, ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sae", name)) => link.sae = Some(decode(name)?),
                Some(("page", name)) => {
                    let page = Page::named(name).ok_or_else(|| format!("there is no page \"{name}\", in {text}"))?;
                    link.place = link.place.or(Some(Location::Page(page)));
                }
                Some(("text", text)) => link.text = Some(decode(text)?),
                Some(("set", number)) => {
                    let number =
                        number.parse().map_err(|_| format!("invalid feature number \"{number}\" in {text}"))?;
                    link.set.push(number);
                }
                _ => return Err(format!("\"{pair}\" is not understood, in {text}")),
            }
        }
        match link.run.as_os_str().is_empty() {
            true => Err(format!("the link names no run: {text}")),
            false => Ok(link),
        }
    }
}

impl Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SCHEME}{}/", percent_encode(&self.run.to_string_lossy()))?;
        let page = match self.place {
            Some(Location::Feature(number)) => write!(out, "f/{number}").map(|()| None)?,
            Some(Location::Sample(number)) => write!(out, "s/{number}").map(|()| None)?,
            Some(Location::Page(page)) => Some(page.name()),
            None => None,
        };
        let mut pairs: Vec<(&str, String)> = Vec::new();
        pairs.extend(page.map(|page| ("page", page.to_owned())));
        pairs.extend(self.sae.as_ref().map(|name| ("sae", percent_encode(name))));
        pairs.extend(self.text.as_ref().map(|text| ("text", percent_encode(text))));
        pairs.extend(self.set.iter().map(|feature| ("set", feature.to_string())));
        let mut sign = '?';
        for (key, value) in pairs {
            write!(out, "{sign}{key}={value}")?;
            sign = '&';
        }
        Ok(())
    }
}

/// The path of the run, and what of it is meant. A slash at the end says that nothing follows, whatever the folder is called.
fn split<'a>(path: &'a str, text: &str) -> Result<(&'a str, Option<Location>), String> {
    if let Some(closed) = path.strip_suffix('/') {
        return Ok((closed, None));
    }
    let kinds = [("/f/", "feature", Location::Feature as fn(u32) -> Location), ("/s/", "sample", Location::Sample)];
    for (mark, what, place) in kinds {
        if let Some((run, number)) = path.rsplit_once(mark).filter(|(_, number)| !number.contains('/')) {
            let number = number.parse().map_err(|_| format!("invalid {what} number \"{number}\" in {text}"))?;
            return Ok((run, Some(place(number))));
        }
    }
    Ok((path, None))
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("not a link: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links_and_paths_are_read() {
        let link = |run: &str, sae: Option<&str>, place| Link {
            run: run.into(),
            sae: sae.map(str::to_owned),
            place,
            ..Link::default()
        };
        assert_eq!(Link::parse("runs/a b"), Ok(link("runs/a b", None, None)));
        assert_eq!(Link::parse("sae://run/f/1234"), Ok(link("run", None, Some(Location::Feature(1234)))));
        assert_eq!(
            Link::parse("sae:///data/my%20run/f/7?sae=big"),
            Ok(link("/data/my run", Some("big"), Some(Location::Feature(7))))
        );
        assert_eq!(Link::parse("sae://run/s/3"), Ok(link("run", None, Some(Location::Sample(3)))));
        let filter = Some(Location::Page(Page::Filter));
        assert_eq!(Link::parse("sae://run/?page=filter&sae=b"), Ok(link("run", Some("b"), filter)));
        assert_eq!(Link::parse("sae://run"), Ok(link("run", None, None)));
    }

    #[test]
    fn broken_links_are_refused_with_a_reason() {
        for (text, said) in [
            ("sae://run/f/x", "invalid feature number"),
            ("sae://run/f/99999999999", "invalid feature number"),
            ("sae://run/s/x", "invalid sample number"),
            ("sae://run/?page=x", "no page"),
            ("sae:///f/3", "names no run"),
            ("sae://", "names no run"),
            ("sae://run?color=red", "not understood"),
            ("sae://%ff/f/3", "not a link"),
        ] {
            assert!(Link::parse(text).is_err_and(|error| error.contains(said)), "{text}: {:?}", Link::parse(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_copied_opens_the_same(
            run in "/?[a-z0-9 %?&#=._-]{1,8}(/[a-zé%20f]{1,5}){0,3}",
            sae in prop::option::of("[a-z0-9._ -]{1,8}"),
            place in prop::option::of(prop_oneof![
                any::<u32>().prop_map(Location::Feature),
                any::<u32>().prop_map(Location::Sample),
                prop::sample::select(Page::ALL.to_vec()).prop_map(Location::Page),
            ]),
            text in prop::option::of(".{1,9}"),
            set in prop::collection::vec(any::<u32>(), 0..3),
        ) {
            let link = Link { run: run.into(), sae, place, text, set };
            prop_assert_eq!(Link::parse(&link.to_string()), Ok(link));
        }
    }
}
