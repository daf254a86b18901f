//! Parameters, names and files: what they stand for, and what hostile ones do.

use std::collections::BTreeMap;

use super::sources::Found;
use super::typed::*;
use super::*;
use crate::withstand::specification;

const REST: &str = "attach xdp; model { labels benign, attack; } classify f at every size packets; \
    on attack when p >= sure { drop; block ip.src for long; }";

fn whole(statements: &str, flow: &str, features: &str) -> String {
    format!(
        "spec s v1; {statements} {REST} flow f on tcp, udp {{ key five_tuple bidirectional; {flow} end tcp.rst; }} \
         features of f {{ {features} }}"
    )
}

const PARAMETERS: &str = "param size = 4; param sure = 0.9; param long = 5 min; param records = 1_024; \
    param quiet = 30 s; param low = -5; param limit = 99;";

/// Files by name; a path means the file of this name.
struct Files(BTreeMap<&'static str, String>);

impl Fragments for Files {
    fn read(&self, _user: &str, path: &str) -> Result<Found, String> {
        let text = self.0.get(path).ok_or("there is no such file")?;
        Ok(Found { name: path.to_owned(), bytes: text.clone().into_bytes() })
    }
}

fn with(source: &str, files: &[(&'static str, &str)], given: &[(&str, &str)]) -> Outcome<FeatureSpec> {
    let files = Files(files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect());
    let parameter =
        |(name, value): &(&str, &str)| Parameter { name: (*name).to_owned(), value: (*value).to_owned() };
    let parameters: Vec<Parameter> = given.iter().map(parameter).collect();
    compile_in("a.spec", source, &Surroundings { parameters: &parameters, fragments: &files })
}

fn codes(outcome: Outcome<FeatureSpec>) -> Vec<&'static str> {
    outcome.unwrap_err().iter().map(|diagnostic| diagnostic.code.id).collect()
}

#[test]
fn parameters_stand_for_numbers_everywhere() {
    let features = "limit = sum(ip.len) - limit in low..limit; a = count() where l4.len < limit and not tcp.syn; \
        b = max(l4.len) clip 0..limit;";
    let named = whole(PARAMETERS, "capacity records; idle quiet;", features);
    let plain = whole(
        "",
        "capacity 1024; idle 30 s;",
        &features.replace("limit", "99").replace("99 =", "limit =").replace("low", "-5"),
    )
    .replace("size", "4")
    .replace("sure", "0.9")
    .replace("long", "5 min");
    let (named, plain) = (with(&named, &[], &[]).unwrap(), with(&plain, &[], &[]).unwrap());
    let without_spans = |spec: &FeatureSpec| {
        let features: Vec<_> =
            spec.features.iter().map(|f| (f.name.clone(), f.range, f.value.range, f.unit)).collect();
        let rules: Vec<_> = spec.rules.iter().map(|rule| (rule.threshold, rule.actions.clone())).collect();
        (features, rules, spec.flow.capacity, spec.flow.idle, spec.triggers)
    };
    assert_eq!(without_spans(&named), without_spans(&plain));
    assert_eq!(
        named.features[1].value.as_leaf().unwrap().filter,
        plain.features[1].value.as_leaf().unwrap().filter
    );
}

#[test]
fn values_from_outside_replace_those_of_statements() {
    let source = whole(PARAMETERS, "capacity records; idle quiet;", "a = count();");
    let spec = with(&source, &[], &[("size", "16"), ("quiet", "2 min"), ("sure", "0.5")]).unwrap();
    assert_eq!(spec.triggers.every, Some(16));
    assert_eq!(spec.flow.idle, Some(Nanos(120_000_000_000)));
    assert_eq!(spec.rules[0].threshold, Some(Probability(500_000)));
    assert_eq!(spec.parameters.len(), 3);
    for (name, value) in
        [("sise", "4"), ("size", "4 s"), ("quiet", "4"), ("size", "x"), ("size", ""), ("size", "1 2")]
    {
        assert_eq!(codes(with(&source, &[], &[(name, value)])), ["E0251"], "{name}={value}");
    }
    // What does not fit is shown where it is used.
    let refused = with(&source, &[], &[("records", "0")]).unwrap_err();
    assert_eq!(
        (refused[0].code.id, refused[0].notes[0].as_str()),
        ("E0213", "`records` is 0 here, by the command line")
    );
}

#[test]
fn names_stand_for_expressions_in_brackets() {
    let lets = "let small = l4.len < limit or ip.ttl < 9; let size_a = sum(ip.len) where small + 1; \
        let twice = size_a - 2;";
    let named = whole(
        &format!("{PARAMETERS} {lets}"),
        "capacity 9; idle 1 s;",
        "a = twice * 3; b = any(not small) where small or fwd;",
    );
    let plain = whole(
        PARAMETERS,
        "capacity 9; idle 1 s;",
        "a = (sum(ip.len) where (l4.len < 99 or ip.ttl < 9) + 1 - 2) * 3; \
         b = any(not (l4.len < 99 or ip.ttl < 9)) where l4.len < 99 or ip.ttl < 9 or fwd;",
    );
    let [named, plain] = [named, plain].map(|source| with(&source, &[], &[]).unwrap());
    for (one, other) in named.features.iter().zip(&plain.features) {
        assert_eq!(one.range, other.range);
        let filters = |feature: &Feature| {
            feature.value.leaves().iter().map(|leaf| leaf.filter.clone()).collect::<Vec<_>>()
        };
        assert_eq!(filters(one), filters(other));
    }
}

#[test]
fn files_are_inserted_once() {
    let source = whole(
        "use \"a\"; use \"b\"; use \"a\";",
        "capacity records; idle quiet;",
        "n = count() where small;",
    );
    let files = [("a", "use \"b\"; let small = l4.len < limit;"), ("b", PARAMETERS)];
    let spec = with(&source, &files, &[("limit", "7")]).unwrap();
    assert_eq!(spec.flow.capacity, 1024);
    let uses: Vec<_> = spec.fragments.iter().map(|fragment| fragment.uses.clone()).collect();
    assert_eq!(uses.len(), 2);
    assert_eq!(uses.iter().map(Vec::len).sum::<usize>(), 4);
    // Line info finds the file that a part is written in.
    let (file, text, at) = spec.place(spec.fragments[1].start + 3);
    assert!(spec.fragments[1].source == text && file == spec.fragments[1].name && at == 3);
}

#[test]
fn hostile_files_are_refused() {
    let source = whole(&format!("use \"a\"; {PARAMETERS}"), "capacity 9; idle 1 s;", "n = count();");
    assert_eq!(codes(with(&source, &[], &[])), ["E0252"]);
    assert_eq!(codes(with(&source, &[("a", "use \"a\";")], &[])), ["E0252"]);
    assert_eq!(codes(with(&source, &[("a", "use \"b\";"), ("b", "use \"a\";")], &[])), ["E0252"]);
    assert_eq!(codes(with(&source, &[("a", "use \"a.spec\";")], &[])), ["E0252"]);
    let long = " ".repeat(lexer::MAX_SOURCE_BYTES);
    assert_eq!(codes(with(&source, &[("a", &long)], &[])), ["E0202"]);

    /// A file for every number, which uses the next one, or the next two.
    struct Endless(usize);
    impl Fragments for Endless {
        fn read(&self, _user: &str, path: &str) -> Result<Found, String> {
            let at: usize = path.parse().unwrap();
            let text: String = (1..=self.0).map(|step| format!("use \"{}\";", at * self.0 + step)).collect();
            Ok(Found { name: path.to_owned(), bytes: text.into_bytes() })
        }
    }
    for width in [1, 2, 10] {
        let source = source.replace("\"a\"", "\"0\"");
        let refused =
            compile_in("a.spec", &source, &Surroundings { parameters: &[], fragments: &Endless(width) });
        assert!(codes(refused).iter().all(|code| *code == "E0202"), "{width}");
    }
}

#[test]
fn hostile_names_are_refused() {
    let of = |lets: &str| {
        with(
            &whole(&format!("{PARAMETERS} {lets}"), "capacity 9; idle 1 s;", "n = count() where last;"),
            &[],
            &[],
        )
    };
    let doubling = |count: usize| {
        let rest: String = (1..count).map(|i| format!("let n{i} = n{0} and n{0};", i - 1)).collect();
        format!("let n0 = fwd; {rest} let last = n{};", count - 1)
    };
    assert_eq!(codes(of(&doubling(40))), ["E0202"]);
    // Refused too, without being put in: so many tests.
    assert_eq!(codes(of(&doubling(12))), ["E0202"]);
    assert!(of(&doubling(6)).is_ok());
    let chain = |count: usize| {
        let rest: String = (1..count).map(|i| format!("let n{i} = n{};", i - 1)).collect();
        format!("let n0 = fwd; {rest} let last = n{};", count - 1)
    };
    assert!(of(&chain(60)).is_ok());
    assert_eq!(codes(of(&chain(20_000))), ["E0202"]);
    let brackets = format!("let n0 = {}fwd{}; let last = (((n0)));", "(".repeat(60), ")".repeat(60));
    assert_eq!(codes(of(&brackets)), ["E0202"]);
    assert_eq!(codes(of("let last = last;")), ["E0250"]);
    assert_eq!(codes(of("let last = other; let other = last;")), ["E0250"]);
    assert_eq!(codes(of("let last = fwd; let last = bwd;")), ["E0250"]);
}

#[test]
fn byte_order_marks_and_line_ends_of_other_systems_are_read() {
    let source = whole(PARAMETERS, "capacity 9; idle 1 s;", "a = count();").replace("; ", ";\r\n\t// é\r\n");
    let marked = format!("\u{feff}{source}");
    let named = |bytes| Named { name: "a.spec", bytes };
    assert_eq!(from_bytes(named(marked.as_bytes())), from_bytes(named(source.as_bytes())));
    assert!(from_bytes(named(source.as_bytes())).is_ok());
}

#[test]
fn times_that_overflow_are_refused() {
    for quiet in
        ["99999999999 h", "9223372036854775808 ns", "0.5 ns", "9999999999999999999999999999999999999999 s"]
    {
        let source = whole(&PARAMETERS.replace("30 s", quiet), "capacity 9; idle quiet;", "a = count();");
        assert_eq!(codes(with(&source, &[], &[])), ["E0214"], "{quiet}");
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = String> {
        let known =
            whole(PARAMETERS, "capacity records; idle quiet;", "a = small + limit; b = count() where small;");
        let words = known.split(' ').map(str::to_owned).collect::<Vec<_>>();
        prop_oneof![
            6 => proptest::sample::select(words),
            2 => proptest::sample::select(vec![
                "use \"0\";".to_owned(), "use \"1\";".to_owned(), "use \"2\";".to_owned(), "\0".to_owned(),
                "param x = 7;".to_owned(), "x".to_owned(), "let small = fwd or small;".to_owned(),
                "let small = x <".to_owned(), known.clone(),
            ]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_soup_of_files_panics(pieces in proptest::collection::vec(piece(), 0..60), value in proptest::option::of("[-0-9.a-z ]{0,6}")) {
            let text = pieces.join(" ");
            let text = value.map_or(text.clone(), |value| format!("={value}\0{text}"));
            specification(text.as_bytes());
        }
    }
}
