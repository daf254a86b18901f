//! The specification in the metadata: all its files and values, so that it is compiled again from the object alone.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{FragmentMetadata, SpecMetadata, hex};
use crate::spec::FeatureSpec;
use crate::spec::sources::{Found, Fragments, Parameter};

/// The files that a specification uses, by names of which no two are the same.
pub(super) fn fragments(spec: &FeatureSpec) -> Vec<FragmentMetadata> {
    let mut stored: Vec<FragmentMetadata> = Vec::new();
    for fragment in &spec.fragments {
        // The words of the specification, not the folders of this machine.
        let mut name = fragment.uses.first().map_or(&fragment.name, |(_, path)| path).clone();
        while name == spec.file || stored.iter().any(|other| other.name == name) {
            name.push('+');
        }
        stored.push(FragmentMetadata { name, uses: fragment.uses.clone(), source: fragment.source.clone() });
    }
    stored
}

/// The values from outside.
pub(super) fn parameters(spec: &FeatureSpec) -> BTreeMap<String, String> {
    let pair = |parameter: &Parameter| (parameter.name.clone(), parameter.value.clone());
    spec.parameters.iter().map(pair).collect()
}

/// SHA-256 of the text, and of the files and values that belong to it.
pub(super) fn digest(spec: &FeatureSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(spec.source.as_bytes());
    for fragment in fragments(spec) {
        for (user, path) in &fragment.uses {
            hash.update(format!("\nuse {user} {path}\n"));
        }
        hash.update(fragment.source.as_bytes());
    }
    for (name, value) in parameters(spec) {
        hash.update(format!("\nparam {name}={value}\n"));
    }
    hex(&hash.finalize())
}

impl SpecMetadata {
    /// What to call the specification when it is compiled again: as none of its files.
    #[must_use]
    pub fn file(&self) -> String {
        let mut name = format!("{}.spec", self.name);
        while self.fragments.iter().any(|fragment| fragment.name == name) {
            name.push('+');
        }
        name
    }

    /// The values that it was compiled with.
    #[must_use]
    pub fn given(&self) -> Vec<Parameter> {
        let parameter =
            |(name, value): (&String, &String)| Parameter { name: name.clone(), value: value.clone() };
        self.parameters.iter().map(parameter).collect()
    }
}

impl Fragments for SpecMetadata {
    fn read(&self, user: &str, path: &str) -> Result<Found, String> {
        let user =
            self.fragments.iter().position(|fragment| fragment.name == user).map_or(0, |index| index + 1);
        let used = |fragment: &&FragmentMetadata| {
            fragment.uses.iter().any(|(by, words)| *by == user && words == path)
        };
        match self.fragments.iter().find(used) {
            Some(found) => Ok(Found { name: found.name.clone(), bytes: found.source.clone().into_bytes() }),
            None => Err("the object has no copy of it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, Surroundings};

    /// Two files of the same name in different folders, one of which is used twice.
    struct Folders;

    impl Fragments for Folders {
        fn read(&self, user: &str, path: &str) -> Result<Found, String> {
            let (name, text) = match (user, path) {
                ("a.spec", "lib.spec") => {
                    ("/x/lib.spec", "use \"deep/lib.spec\"; let small = l4.len < limit;")
                }
                ("/x/lib.spec" | "a.spec", "deep/lib.spec") => {
                    ("/x/deep/lib.spec", "param limit = 100; use \"lib.spec\";")
                }
                ("/x/deep/lib.spec", "lib.spec") => ("/x/deep/other.spec", "param idle = 9 s;"),
                (user, path) => return Err(format!("{user} {path}")),
            };
            Ok(Found { name: name.to_owned(), bytes: text.as_bytes().to_vec() })
        }
    }

    #[test]
    fn what_is_stored_compiles_to_the_same() {
        let source = "spec s v1; use \"lib.spec\"; use \"deep/lib.spec\"; attach xdp; flow f on udp { key five_tuple \
            bidirectional; capacity 9; idle idle; } features of f { a = count() where small; } \
            model { labels b, c; } classify f at every packet;";
        let given = [Parameter { name: "limit".to_owned(), value: "64".to_owned() }];
        let surroundings = Surroundings { parameters: &given, fragments: &Folders };
        let first = spec::compile_in("a.spec", source, &surroundings).unwrap();
        let stored = SpecMetadata {
            name: "lib".to_owned(),
            version: 1,
            sha256: digest(&first),
            source: first.source.clone(),
            fragments: fragments(&first),
            parameters: parameters(&first),
            records: String::new(),
            tables: BTreeMap::default(),
            rules: Vec::new(),
        };
        let names: Vec<&str> = stored.fragments.iter().map(|fragment| fragment.name.as_str()).collect();
        assert_eq!(names, ["lib.spec", "deep/lib.spec", "lib.spec+"]);
        let given = stored.given();
        let surroundings = Surroundings { parameters: &given, fragments: &stored };
        let again = spec::compile_in(&stored.file(), &stored.source, &surroundings).unwrap();
        assert_eq!(again.features, first.features);
        assert_eq!((again.flow.idle, digest(&again)), (first.flow.idle, stored.sha256.clone()));
        assert_ne!(stored.sha256, digest(&FeatureSpec { parameters: Vec::new(), ..first }));
    }
}
