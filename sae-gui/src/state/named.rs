//! What a run has several of by name, such as contrasts and probes: which there are, which one is shown, and the one that was read.
//! Reads no file.

/// Several things of a kind by their names.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// The names, sorted.
    pub names: Vec<String>,
    /// The one that a link names or a person has chosen.
    pub chosen: Option<String>,
    /// The one that was read last, with its name.
    read: Option<(String, T)>,
}

impl<T> Named<T> {
    /// None of them is read yet.
    pub fn new(names: Vec<String>, chosen: Option<String>) -> Self {
        Self { names, chosen, read: None }
    }

    /// The name of the one that is shown: the chosen one, else the first one.
    pub fn name(&self) -> Option<&str> {
        self.chosen.as_ref().or(self.names.first()).map(String::as_str)
    }

    /// The one that is shown, once it is read.
    pub fn shown(&self) -> Option<&T> {
        self.read.as_ref().filter(|(name, _)| Some(name.as_str()) == self.name()).map(|(_, read)| read)
    }

    /// The name of the one that is to be shown but is not read yet. A name that does not exist is never read.
    pub fn pending(&self) -> Option<&str> {
        self.name().filter(|name| self.shown().is_none() && self.names.iter().any(|other| other == name))
    }

    /// Keeps what was read.
    pub fn set(&mut self, name: String, read: T) {
        self.read = Some((name, read));
    }

    /// Takes the names after files have changed. What was read may have been made again, so it is forgotten.
    pub fn renew(&mut self, names: Vec<String>) {
        (self.names, self.read) = (names, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_one_is_read_if_it_exists_and_again_after_files_have_changed() {
        let mut named = Named::new(vec!["a".into(), "b".into()], None);
        assert_eq!((named.name(), named.pending(), named.shown()), (Some("a"), Some("a"), None));
        named.set("a".into(), 1);
        assert_eq!((named.pending(), named.shown()), (None, Some(&1)));
        named.chosen = Some("b".into());
        assert_eq!((named.pending(), named.shown()), (Some("b"), None), "another one is shown");
        named.set("b".into(), 2);
        named.renew(vec!["b".into(), "c".into()]);
        assert_eq!((named.name(), named.pending()), (Some("b"), Some("b")));
        named.chosen = Some("none".into());
        assert_eq!((named.name(), named.pending(), named.shown()), (Some("none"), None, None));
        assert_eq!(Named::<u32>::new(Vec::new(), None).name(), None);
    }
}
