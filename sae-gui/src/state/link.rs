//! Links into a run: `sae://RUN/f/1234` (a feature), `sae://RUN/s/12` (a sample), `sae://RUN/?page=filter&by=pmi&keep=400`. The same
//! string opens a view from the command line, from a note and from a colleague's message. A shorter form names the feature that
//! another one is compared with. A run behind a server has its address: `http://127.0.0.1:8000/f/12?token=5f0c`. Touches no file.

use super::guard::GuardSettings;
use super::list::Sort;
use super::location::{Location, Page};
use super::map::MapKind;
use super::playground::parse_multiples;
use filters::select::budget::BudgetRule;
use sae_core::path_text::percent_encode;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

/// How every link to a folder begins.
const SCHEME: &str = "sae://";
/// How addresses of servers begin.
const SERVED: [&str; 2] = ["http://", "https://"];
/// Pages of servers that the app has too.
const PAGES: [(&str, Page); 3] = [("/features", Page::Features), ("/filter", Page::Filter), ("/run", Page::Run)];

/// A run, and what to show of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// The run folder; or the address of its server, with `?token=` and the token if the link has one.
    pub run: PathBuf,
    /// Name of the autoencoder; without one, the first that has an index.
    pub sae: Option<String>,
    /// What to show.
    pub location: Option<Location>,
    /// The search in the table of features.
    pub search: Option<String>,
    /// The columns that the table is sorted by, the one that decides first.
    pub sort: Option<[Sort; 2]>,
    /// The feature that is compared with the one that is shown.
    pub with: Option<Counterpart>,
    /// The contrast on the Contrast page, or the probe on the Probe page.
    pub name: Option<String>,
    /// What the map of all features shows.
    pub map: Option<MapKind>,
    /// The score that decides on the Filter page.
    pub by: Option<String>,
    /// How many samples it keeps.
    pub keep: Option<usize>,
    /// The budget that it keeps there.
    pub budget: Option<BudgetRule>,
    /// A prompt for the Playground page, or for the test on the page of a feature.
    pub prompt: Option<String>,
    /// The path of its image.
    pub image: Option<PathBuf>,
    /// Features to steer there, each with its activation; without one, at its maximum.
    pub steer: Vec<(u32, Option<f32>)>,
    /// The multiples of these strengths that are compared there, as typed.
    pub multiples: Option<String>,
    /// The guard under which the model writes there.
    pub guard: Option<Box<GuardSettings>>,
}

impl Link {
    /// A link to a run as a whole.
    pub fn to_run(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), ..Self::default() }
    }

    /// Whether a text is a link or the address of a server, and no path.
    pub fn is_link(text: &str) -> bool {
        text.starts_with(SCHEME) || is_served(text)
    }

    /// Parses a link, an address of `sae serve`, or a plain path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_served(text) {
            return Self::parse_served(text);
        }
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(Self::to_run(text)) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (run, location) = split(path, text)?;
        let mut link = Self { location, ..Self::to_run(decode(run)?) };
        for (key, value) in pairs(query) {
            link.set(key, value, text)?;
        }
        if link.run.as_os_str().is_empty() { Err(format!("the link names no run: {text}")) } else { Ok(link) }
    }

    /// Parses the address of a page of a server, as a browser shows it. Of its query, only what the app has too is taken: the number of
    /// a page of a table is not, for instance.
    fn parse_served(text: &str) -> Result<Self, String> {
        let (text, _fragment) = text.split_once('#').unwrap_or((text, ""));
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let page = |(ending, page): &(&str, Page)| Some((path.strip_suffix(ending)?, *page));
        let (run, location, name) = if let Some((run, page)) = PAGES.iter().find_map(page) {
            (run, Some(Location::Page(page)), None)
        } else if let Some((run, name)) = path.rsplit_once("/contrast/").filter(|(_, name)| !name.contains('/')) {
            (run, Some(Location::Page(Page::Contrast)), Some(decode(name)?))
        } else {
            let (run, location) = split(path, text)?;
            (run, location, None)
        };
        let mut link = Self { location, name, ..Self::to_run(run) };
        for (key, value) in pairs(query) {
            if key == "token" {
                link.run = format!("{run}?token={value}").into();
            } else {
                // Forms write a space as a plus sign. What the app does not know changes nothing.
                let _ = link.set(key, &value.replace('+', "%20"), text);
            }
        }
        Ok(link)
    }

    /// Takes a pair of the query of the link `text`. Changes nothing if it is invalid.
    fn set(&mut self, key: &str, value: &str, text: &str) -> Result<(), String> {
        let invalid = |what: &str| format!("invalid {what} \"{value}\" in the link {text}");
        match key {
            "sae" => self.sae = Some(decode(value)?),
            "page" => {
                let page = Page::from_name(value).ok_or_else(|| invalid("page"))?;
                self.location = Some(match self.location {
                    Some(Location::Feature(number)) if page == Page::Compare => Location::Compare(number),
                    Some(given) => given,
                    None => Location::Page(page),
                });
            }
            "with" => {
                let with = decode(value)?.parse();
                self.with = Some(with.map_err(|problem: String| format!("{problem}, in the link {text}"))?);
            }
            "name" => self.name = Some(decode(value)?),
            "search" => self.search = Some(decode(value)?),
            "sort" => self.sort = Some(Sort::parse(value).ok_or_else(|| invalid("sort"))?),
            "map" => self.map = Some(MapKind::from_name(value).ok_or_else(|| invalid("map"))?),
            "by" => self.by = Some(decode(value)?),
            "keep" => self.keep = Some(value.parse().map_err(|_| invalid("number of samples"))?),
            "budget" => self.budget = Some(decode(value)?.parse()?),
            "prompt" => self.prompt = Some(decode(value)?),
            "image" => self.image = Some(decode(value)?.into()),
            "multiples" => {
                let multiples = decode(value)?;
                parse_multiples(&multiples).map_err(|problem| format!("{problem}, in the link {text}"))?;
                self.multiples = Some(multiples);
            }
            "guard" => {
                let guard = decode(value)?.parse();
                let guard = guard.map_err(|problem: String| format!("{problem}, in the link {text}"))?;
                self.guard = Some(Box::new(guard));
            }
            "steer" => self.steer.push(parse_steer(value).ok_or_else(|| invalid("feature to steer"))?),
            _ => return Err(format!("unknown key \"{key}\" in the link {text}")),
        }
        Ok(())
    }
}

impl Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run.to_string_lossy();
        if is_served(&run) {
            // A token is a secret, and not a part of links.
            write!(out, "{}/", run.split('?').next().unwrap_or_default())?;
        } else {
            write!(out, "{SCHEME}{}/", percent_encode(&run))?;
        }
        let page = match self.location {
            Some(Location::Feature(number)) => write!(out, "f/{number}").map(|()| None)?,
            Some(Location::Compare(number)) => write!(out, "f/{number}").map(|()| Some(Page::Compare.name()))?,
            Some(Location::Sample(number)) => write!(out, "s/{number}").map(|()| None)?,
            Some(Location::Page(page)) => Some(page.name()),
            None => None,
        };
        let mut pairs: Vec<(&str, String)> = Vec::new();
        pairs.extend(page.map(|page| ("page", page.to_owned())));
        pairs.extend(self.sae.as_ref().map(|name| ("sae", percent_encode(name))));
        pairs.extend(self.with.as_ref().map(|with| ("with", percent_encode(&with.to_string()))));
        pairs.extend(self.name.as_ref().map(|name| ("name", percent_encode(name))));
        pairs.extend(self.search.as_ref().map(|text| ("search", percent_encode(text))));
        pairs.extend(self.sort.map(|sort| ("sort", Sort::format(sort))));
        pairs.extend(self.map.map(|kind| ("map", kind.name().to_owned())));
        pairs.extend(self.by.as_ref().map(|name| ("by", percent_encode(name))));
        pairs.extend(self.keep.map(|count| ("keep", count.to_string())));
        pairs.extend(self.budget.as_ref().map(|rule| ("budget", percent_encode(&rule.to_string()))));
        pairs.extend(self.prompt.as_ref().map(|text| ("prompt", percent_encode(text))));
        pairs.extend(self.image.as_ref().map(|path| ("image", percent_encode(&path.to_string_lossy()))));
        pairs.extend(self.steer.iter().map(|steer| ("steer", format_steer(*steer))));
        pairs.extend(self.multiples.as_ref().map(|text| ("multiples", percent_encode(text))));
        pairs.extend(self.guard.as_ref().map(|guard| ("guard", percent_encode(&guard.to_string()))));
        let mut sign = '?';
        for (key, value) in pairs {
            write!(out, "{sign}{key}={value}")?;
            sign = '&';
        }
        Ok(())
    }
}

/// The keys of a query, with their values.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn is_served(text: &str) -> bool {
    SERVED.iter().any(|scheme| text.starts_with(scheme))
}

/// Such as `12` (at its maximum) or `12:0.5`.
fn format_steer((feature, strength): (u32, Option<f32>)) -> String {
    format!("{feature}{}", strength.map(|strength| format!(":{strength}")).unwrap_or_default())
}

fn parse_steer(text: &str) -> Option<(u32, Option<f32>)> {
    let Some((feature, strength)) = text.split_once(':') else { return Some((text.parse().ok()?, None)) };
    let strength = strength.parse().ok().filter(|strength: &f32| strength.is_finite())?;
    Some((feature.parse().ok()?, Some(strength)))
}

/// The path of the run, and what of it is meant. A slash at the end says that nothing follows, whatever the folder is called.
fn split<'a>(path: &'a str, text: &str) -> Result<(&'a str, Option<Location>), String> {
    if let Some(closed) = path.strip_suffix('/') {
        return Ok((closed, None));
    }
    let kinds = [("/f/", "feature", Location::Feature as fn(u32) -> Location), ("/s/", "sample", Location::Sample)];
    for (mark, what, location) in kinds {
        if let Some((run, number)) = path.rsplit_once(mark).filter(|(_, number)| !number.contains('/')) {
            let number =
                number.parse().map_err(|_| format!("invalid {what} number \"{number}\" in the link {text}"))?;
            return Ok((run, Some(location(number))));
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
    String::from_utf8(bytes).map_err(|_| format!("the link is not valid UTF-8: {text}"))
}

/// The second feature of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// Its run; nothing for the run that is open.
    pub run: Option<PathBuf>,
    /// Its autoencoder; nothing for the one whose features are shown, or for the first one of another run.
    pub sae: Option<String>,
    /// Its number.
    pub feature: u32,
}

impl Counterpart {
    /// A feature of the autoencoder whose features are shown.
    pub fn new(feature: u32) -> Self {
        Self { run: None, sae: None, feature }
    }
}

/// Such as `34`, `other/34` (an autoencoder of the run), or `sae://RUN/f/34`.
impl Display for Counterpart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.run, &self.sae) {
            (Some(run), sae) => {
                let location = Some(Location::Feature(self.feature));
                Link { sae: sae.clone(), location, ..Link::to_run(run.clone()) }.fmt(out)
            }
            (None, Some(sae)) => write!(out, "{sae}/{}", self.feature),
            (None, None) => write!(out, "{}", self.feature),
        }
    }
}

impl FromStr for Counterpart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "Invalid feature \"{text}\": expected a number, AUTOENCODER/NUMBER or a link such as sae://RUN/f/34"
            )
        };
        if Link::is_link(text) {
            let link = Link::parse(text)?;
            let Some(Location::Feature(feature)) = link.location else { return Err(invalid()) };
            return Ok(Self { run: Some(link.run), sae: link.sae, feature });
        }
        let (sae, number) = text.rsplit_once('/').map_or((None, text), |(sae, number)| (Some(sae.to_owned()), number));
        if sae.as_ref().is_some_and(String::is_empty) {
            return Err(invalid());
        }
        Ok(Self { run: None, sae, feature: number.parse().map_err(|_| invalid())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::field::Field;
    use proptest::prelude::*;

    #[test]
    fn links_and_paths_are_parsed() {
        let link = |run: &str, sae: Option<&str>, location| Link {
            sae: sae.map(str::to_owned),
            location,
            ..Link::to_run(run)
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
        let compared = Link::parse("sae://run/f/3?page=compare&with=other/4").unwrap();
        assert_eq!(compared.location, Some(Location::Compare(3)));
        let with = Counterpart { run: None, sae: Some("other".into()), feature: 4 };
        assert_eq!(compared.with, Some(with));
    }

    #[test]
    fn a_link_holds_the_search_the_sort_and_the_threshold() {
        let link = Link::parse("sae://run/f/3?search=class:cross%20ring&sort=-rate_text,class&by=pmi&keep=40").unwrap();
        assert_eq!(link.search.as_deref(), Some("class:cross ring"));
        let sort = [Sort { field: Field::RateText, descending: true }, Sort { field: Field::Class, descending: false }];
        assert_eq!((link.sort, link.by.as_deref(), link.keep), (Some(sort), Some("pmi"), Some(40)));
    }

    #[test]
    fn an_address_of_a_server_is_a_link_to_its_run_and_a_copied_one_has_no_token() {
        let address = "http://127.0.0.1:8000";
        let parsed = |text: &str| Link::parse(text).map(|link| (link.run.display().to_string(), link.location));
        let with_token = format!("{address}?token=5f0c");
        for (text, location) in [
            ("http://127.0.0.1:8000/?token=5f0c", None),
            ("http://127.0.0.1:8000?token=5f0c", None),
            ("http://127.0.0.1:8000/features?token=5f0c", Some(Location::Page(Page::Features))),
            ("http://127.0.0.1:8000/f/12?token=5f0c", Some(Location::Feature(12))),
            ("http://127.0.0.1:8000/s/3?token=5f0c", Some(Location::Sample(3))),
        ] {
            assert_eq!(parsed(text), Ok((with_token.clone(), location)), "{text}");
        }
        assert_eq!(
            parsed("https://host/cluster/run"),
            Ok(("https://host/cluster".into(), Some(Location::Page(Page::Run))))
        );
        let link = Link::parse("http://127.0.0.1:8000/f/12?token=5f0c&search=red").unwrap();
        assert_eq!(link.to_string(), "http://127.0.0.1:8000/f/12?search=red");
        assert_eq!(Link { run: address.into(), ..link.clone() }, Link::parse(&link.to_string()).unwrap());
        assert_eq!(
            parsed("http://127.0.0.1:8000/contrast/by%20year?page=2&per_page=50"),
            Ok((address.into(), Some(Location::Page(Page::Contrast))))
        );
        assert_eq!(Link::parse("http://127.0.0.1:8000/contrast/by%20year").unwrap().name.as_deref(), Some("by year"));
        // What a browser shows beside that belongs to its page.
        for (text, expected) in [
            ("/features?page=2&sort=-x&columns=class,max&search=red+ring%2B", "/?page=features&search=red%20ring%2B"),
            ("/filter?keep=50%&by=pmi", "/?page=filter&by=pmi"),
            ("/f/12?wait=1&page=compare&with=x", "/f/12?page=compare"),
            ("/s/3?feature=7", "/s/3"),
        ] {
            let link = Link::parse(&format!("{address}{text}&token=5f0c#top")).unwrap();
            assert_eq!(
                (link.to_string(), link.run),
                (format!("{address}{expected}"), with_token.clone().into()),
                "{text}"
            );
        }
        assert!(Link::parse("http://127.0.0.1:8000/f/x").is_err_and(|error| error.contains("invalid feature number")));
    }

    #[test]
    fn broken_links_are_rejected_with_a_reason() {
        for (text, expected) in [
            ("sae://run/f/x", "invalid feature number"),
            ("sae://run/f/99999999999", "invalid feature number"),
            ("sae://run/s/x", "invalid sample number"),
            ("sae://run/?page=x", "invalid page"),
            ("sae://run/?sort=color,class", "invalid sort"),
            ("sae://run/?map=umap", "invalid map"),
            ("sae://run/?keep=all", "invalid number of samples"),
            ("sae://run/f/3?page=compare&with=x", "Invalid feature \"x\""),
            ("sae://run/?multiples=1,x", "Invalid number \"x\""),
            ("sae://run/?steer=3:inf", "invalid feature to steer"),
            ("sae://run/?steer=3:", "invalid feature to steer"),
            ("sae:///f/3", "names no run"),
            ("sae://", "names no run"),
            ("sae://run?color=red", "unknown key"),
            ("sae://%ff/f/3", "not valid UTF-8"),
        ] {
            assert!(Link::parse(text).is_err_and(|error| error.contains(expected)), "{text}: {:?}", Link::parse(text));
        }
    }

    #[test]
    fn a_counterpart_is_read_back() {
        for text in ["34", "other/34", "sae://runs/a%20b/f/34", "sae:///data/run/f/3?sae=big"] {
            assert_eq!(text.parse::<Counterpart>().unwrap().to_string(), text);
        }
        for text in ["", "x", "/3", "other/", "sae://run/s/3", "sae://run/?page=filter", "-1"] {
            assert!(text.parse::<Counterpart>().is_err(), "{text}");
        }
    }

    fn sort() -> impl Strategy<Value = Sort> {
        (prop::sample::select(Field::ALL.to_vec()), any::<bool>())
            .prop_map(|(field, descending)| Sort { field, descending })
    }

    proptest! {
        #[test]
        fn a_copied_link_opens_the_same(
            run in "/?[a-z0-9 %?&#=._-]{1,8}(/[a-zé%20f]{1,5}){0,3}",
            sae in prop::option::of("[a-z0-9._ -]{1,8}"),
            location in prop::option::of(prop_oneof![
                any::<u32>().prop_map(Location::Feature),
                any::<u32>().prop_map(Location::Sample),
                any::<u32>().prop_map(Location::Compare),
                prop::sample::select(Page::ALL.to_vec()).prop_map(Location::Page),
            ]),
            with in prop::option::of((
                prop::option::of("/?[a-z0-9 %?&#=._-]{1,8}"), prop::option::of("[a-z0-9._-]{1,8}"), any::<u32>(),
            )),
            name in prop::option::of("[a-z0-9_ =&%]{1,8}"),
            search in prop::option::of(".{1,9}"),
            sort in prop::option::of([sort(), sort()]),
            map in prop::option::of(prop::sample::select(MapKind::ALL.to_vec())),
            by in prop::option::of("[a-z0-9_=&]{1,8}"),
            keep in prop::option::of(any::<usize>()),
            budget in prop::option::of("[a-z_]{1,6}[<>]=-?[0-9]{1,3}\\.5"),
            prompt in prop::option::of(".{1,9}"),
            image in prop::option::of("/?[a-z0-9 %?&#=._-]{1,8}"),
            steer in prop::collection::vec((any::<u32>(), prop::option::of(-1e3f32..1e3)), 0..3),
            multiples in prop::option::of("[0-9]{1,2}\\.5(, ?-?[0-9]{1,2}){0,3}"),
            guard in prop::option::of(("[a-z0-9_-]{0,6}", 0u32..9, any::<u64>(), -1e3f64..1e3)),
        ) {
            let budget = budget.map(|rule| rule.parse().unwrap());
            let with = with.map(|(run, sae, feature)| Counterpart { run: run.map(PathBuf::from), sae, feature });
            let guard = guard.map(|(guard, tries, seed, severity)| {
                Box::new(GuardSettings { guard, tries, seed, severity, ..GuardSettings::default() })
            });
            let link = Link { guard, image: image.map(PathBuf::from), run: run.into(), sae, location, with, name, search, sort, map, by, keep, budget, prompt, steer, multiples };
            prop_assert_eq!(Link::parse(&link.to_string()), Ok(link));
        }
    }
}
