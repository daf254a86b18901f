//! What specifications mean, and that no text panics the front end.

use super::typed::*;
use super::*;
use crate::diag::render;
use crate::ir::flow::{SAMPLE_LIMIT, ranges};
use crate::ir::{FractionBits, Interval};
use crate::withstand::specification;

const SIX: &str = r"
spec six v1;
attach xdp;
flow conn on tcp, udp {
    key five_tuple bidirectional;
    capacity 65_536 evict lru;
    idle 120 s;
    end tcp.fin or tcp.rst;
}
features of conn {
    dst_port = first(l4.dst_port);
    max_gap = max(gap) as us where fwd;   // comment
    len_std = std(l4.payload_len) where fwd;
    half_open = count() where tcp.syn and not tcp.ack;
    bytes = sum(ip.len) in 0..1_000_000;
    any_gap = mean(gap) as ms;
}
model { labels benign, attack; }
classify conn at end, every 16 packets;
on attack when p >= 0.95 { drop; block ip.src for 10 min; report; }
on benign { report; }
";

fn compiled(source: &str) -> FeatureSpec {
    compile("test.spec", source).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

#[test]
fn a_whole_specification_means_what_it_says() {
    let spec = compiled(SIX);
    assert_eq!((spec.name.as_str(), spec.version), ("six", 1));
    assert_eq!(spec.flow.capacity, 65_536);
    assert_eq!(spec.flow.idle, Some(Nanos(120_000_000_000)));
    assert_eq!(spec.flow.end, End::On { fin: true, rst: true });
    assert_eq!(spec.flow.directions, Directions::Both);
    assert_eq!(spec.outputs[0].labels, ["benign", "attack"]);
    assert_eq!(spec.triggers, Triggers { end: true, every: Some(16), ..Triggers::default() });
    let names: Vec<&str> = spec.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["dst_port", "max_gap", "len_std", "half_open", "bytes", "any_gap"]);
    assert_eq!(spec.rules.len(), 2);
    assert_eq!(spec.rules[0].label, 1);
    assert_eq!(spec.rules[0].threshold, Some(Probability(950_000)));
    let ten_minutes = Nanos(600_000_000_000);
    assert_eq!(spec.rules[0].actions, [Action::Drop, Action::BlockSource(ten_minutes), Action::Report]);
    assert_eq!(spec.rules[1].threshold, None);
}

#[test]
fn sweeps_are_asked_for() {
    assert!(!compiled(SIX).flow.sweep);
    let swept = SIX.replace("idle 120 s;", "idle 120 s sweep;");
    let flow = compiled(&swept).flow;
    assert_eq!((flow.sweep, flow.idle), (true, Some(Nanos(120_000_000_000))));
    assert!(format::format("test.spec", &swept).unwrap().contains("120 s sweep;"));
    // A time has a unit, and without a time nothing is swept.
    for (wrong, code) in [("idle 120 sweep;", "E0214"), ("idle never sweep;", "E0201")] {
        let refused = compile("test.spec", &SIX.replace("idle 120 s;", wrong)).unwrap_err();
        assert_eq!(refused.iter().map(|one| one.code.id).collect::<Vec<_>>(), [code], "{wrong}");
    }
}

#[test]
fn every_hook_has_its_words() {
    for hook in [Hook::Xdp, Hook::TcIngress, Hook::TcEgress] {
        let spec = compiled(&SIX.replace("attach xdp;", &format!("attach {};", hook.name())));
        assert_eq!(spec.hook, hook);
    }
}

#[test]
fn filters_and_units_are_resolved() {
    let spec = compiled(SIX);
    let gap = spec.features[1].value.as_leaf().unwrap();
    assert_eq!(gap.function, Function::Max);
    assert_eq!(gap.operand, Some(Operand::Gap(TimeUnit::Micros)));
    assert_eq!(gap.filter.direction, Some(Direction::Forward));
    assert_eq!(spec.features[1].unit, Unit::Time(TimeUnit::Micros));
    let half_open = spec.features[3].value.as_leaf().unwrap();
    assert_eq!(half_open.operand, None);
    assert_eq!((half_open.filter.flags_set, half_open.filter.flags_clear), (0x02, 0x10));
    assert_eq!(spec.features[3].unit, Unit::Packets);
}

#[test]
fn ranges_follow_from_types() {
    let spec = compiled(SIX);
    let range = |index: usize| spec.features[index].range;
    assert_eq!(range(0), Interval { low: 0, high: 65_535 });
    // Filtered: packets of the other direction keep the record alive, so the idle time bounds nothing.
    assert_eq!(range(1), Interval { low: 0, high: (1 << 31) - 1 });
    assert_eq!(spec.features[2].fraction_bits, FractionBits(8));
    let std = spec.features[2].value.as_leaf().unwrap();
    assert_eq!(range(2), ranges::of(std));
    assert_eq!(range(3).high, i64::try_from(SAMPLE_LIMIT).unwrap());
    assert_eq!(range(4), Interval { low: 0, high: 1_000_000 });
    // Unfiltered: at most the idle time, in milliseconds with 8 fraction bits.
    assert_eq!(range(5), Interval { low: 0, high: 120_000 << 8 });
}

#[test]
fn words_of_the_language_are_no_reserved_words() {
    let spec = compiled(
        "spec end v1; attach xdp; flow flow on tcp { key five_tuple directional; capacity 1; idle never; \
         end tcp.rst; } features of flow { end = count(); key = count() where fwd; spec = count(); } \
         model { labels on, \"Do S\"; } classify flow at every packet; on on { report; } on \"Do S\" { drop; }",
    );
    assert_eq!(spec.flow.directions, Directions::One);
    assert_eq!(spec.triggers, Triggers { every: Some(1), ..Triggers::default() });
    assert_eq!(spec.outputs[0].labels, ["on", "Do S"]);
    // Every packet of a directional flow is forward.
    let key = spec.features[1].value.as_leaf().unwrap();
    assert_eq!(key.filter, Filter::default());
}

#[test]
fn several_mistakes_are_reported_at_once() {
    let broken = SIX
        .replace("capacity 65_536", "capcity 65_536")
        .replace("first(l4.dst_port)", "frist(l4.dst_port)")
        .replace("where fwd;", "where forward;")
        .replace("report; }\non", "reprt; }\non");
    let codes: Vec<&str> =
        compile("test.spec", &broken).unwrap_err().iter().map(|diagnostic| diagnostic.code.id).collect();
    assert_eq!(codes, ["E0201", "E0220", "E0223", "E0223", "E0243"]);
}

#[test]
fn no_truncation_panics() {
    for (end, _) in SIX.char_indices() {
        let errors = compile("test.spec", &SIX[..end]).err();
        // Rules are optional, so the text is whole from the end of the classify line on.
        if end < SIX.find("on attack").unwrap() - 1 {
            assert!(errors.is_some_and(|errors| !errors.is_empty()), "cut at {end}");
        }
    }
}

#[test]
fn no_deletion_and_no_doubling_panics() {
    let pieces: Vec<&str> = SIX.split_inclusive([' ', ';', '(', ')', '{', '}']).collect();
    for index in 0..pieces.len() {
        let without: String =
            pieces.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, piece)| *piece).collect();
        let doubled: String = pieces
            .iter()
            .enumerate()
            .flat_map(|(at, piece)| std::iter::repeat_n(*piece, if at == index { 2 } else { 1 }))
            .collect();
        for text in [without, doubled] {
            specification(text.as_bytes());
        }
    }
}

/// Sums nest without a bracket; a stack of 2 MiB holds the longest that is accepted in debug builds too.
#[test]
fn no_long_expression_overflows_the_stack() {
    let with = |value: &str| SIX.replacen("sum(ip.len) in 0..1_000_000", value, 1);
    for (operand, operator) in
        [("count()", " + "), ("1", " * "), ("count()", " / "), ("share(tcp.syn)", " - ")]
    {
        let of = |count: usize| vec![operand; count].join(operator);
        let long = with(&format!("count(){operator}{}", of(100_000)));
        specification(long.as_bytes());
        let codes: Vec<&str> = compile("a", &long).unwrap_err().iter().map(|d| d.code.id).collect();
        assert_eq!(codes, ["E0202"]);
    }
    let fits = with(&vec!["count()"; 256].join(" + "));
    specification(fits.as_bytes());
    assert_eq!(compiled(&fits).features[4].value.leaves().len(), 256);
    assert!(compile("a", &with(&vec!["count()"; 257].join(" + "))).is_err());
}

#[test]
fn very_many_mistakes_are_counted_not_shown() {
    for text in ["}".repeat(1 << 20), "é a ".repeat(200_000), format!("a{}", ".b".repeat(500_000))] {
        let diagnostics = compile("a.spec", &text).unwrap_err();
        let shown = render::all(&diagnostics, &[("a.spec", &text)]);
        assert!(diagnostics.len() <= 100 && shown.len() < 200_000, "{}", shown.len());
    }
    let notes = compile("a.spec", &"é a ".repeat(200_000)).unwrap_err().pop().unwrap().notes;
    assert!(notes.iter().any(|note| note.ends_with("further mistakes are not shown")), "{notes:?}");
}

#[test]
fn no_nesting_overflows_the_stack() {
    for (open, close) in
        [("(", ")"), ("{", "}"), ("[", "]"), ("not ", ""), ("- ", ""), ("a + ", ""), ("x.", "")]
    {
        for depth in [10, 63, 65, 20_000] {
            let text = format!(
                "{}{}x{};",
                SIX.replace("first(l4.dst_port);", ""),
                open.repeat(depth),
                close.repeat(depth)
            );
            assert!(compile("test.spec", &text).is_err());
            let inside =
                SIX.replace("first(l4.dst_port)", &format!("{}x{}", open.repeat(depth), close.repeat(depth)));
            assert!(compile("test.spec", &inside).is_err());
        }
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = String> {
        let known = SIX.split([' ', '\n']).map(str::to_owned).collect::<Vec<_>>();
        prop_oneof![
            8 => proptest::sample::select(known),
            1 => "[a-z(){};,.0-9=<>+*/-]{1,4}",
            1 => "\\PC{0,3}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_panics(text in "\\PC*") {
            specification(text.as_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            specification(&bytes);
            specification(String::from_utf8_lossy(&bytes).as_bytes());
        }

        #[test]
        fn no_soup_of_tokens_panics(pieces in proptest::collection::vec(piece(), 0..80)) {
            specification(pieces.join(" ").as_bytes());
        }

        #[test]
        fn no_splice_panics(at in 0..SIX.len(), pieces in proptest::collection::vec(piece(), 0..5)) {
            let at = (0..=at).rev().find(|at| SIX.is_char_boundary(*at)).unwrap_or(0);
            let text = format!("{} {} {}", &SIX[..at], pieces.join(" "), &SIX[at..]);
            specification(text.as_bytes());
        }
    }
}

/// Shipped specifications with the number of their features.
const SHIPPED: [(&str, &str, usize); 9] = [
    ("cic6", include_str!("../../../specs/cic6.spec"), 6),
    ("cicflowmeter", include_str!("../../../specs/cicflowmeter.spec"), 58),
    ("nfstream", include_str!("../../../specs/nfstream.spec"), 61),
    ("bachl_hara", include_str!("../../../specs/bachl-hara.spec"), 12),
    ("dsn24", include_str!("../../../specs/dsn24.spec"), 6),
    ("dsn24_cic", include_str!("../../../specs/dsn24-cic.spec"), 6),
    ("header", include_str!("../../../specs/header.spec"), 30),
    ("ids", include_str!("../../../specs/ids.spec"), 14),
    ("scan", include_str!("../../../specs/scan.spec"), 10),
];

#[test]
fn shipped_specifications_compile() {
    for (name, source, features) in SHIPPED {
        let spec = compiled(source);
        assert_eq!(spec.name, name);
        assert_eq!(spec.features.len(), features);
    }
}

#[test]
fn the_reference_agrees_with_the_compiler() {
    let reference = include_str!("../../../specs/language.md");
    let example = reference.split("```spec\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(compiled(example).features.len(), 6);
    // Each row of the table of fields: name and greatest value.
    for facts in &resolve::fields::FIELDS {
        let row = reference
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", facts.name)))
            .unwrap_or_else(|| panic!("`{}` is not in the reference", facts.name));
        let greatest: u64 = row.split('|').nth(4).unwrap().trim().replace(',', "").parse().unwrap();
        assert_eq!(greatest, ranges::field_limit(facts.field), "{}", facts.name);
    }
    for (name, _) in resolve::fields::FLAGS {
        assert!(reference.contains(&format!("`{name}`")), "{name}");
    }
    for (name, _) in resolve::aggregate::FUNCTIONS {
        assert!(reference.contains(&format!("| `{name}(")), "{name}");
    }
}
