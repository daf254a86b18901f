//! What the formatter keeps and what it changes.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::path::{Path, PathBuf};

use nnbpf_compiler::spec::format::format;

/// Every specification of the repository, those with mistakes in their meaning included.
fn specifications() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    let mut folders = vec![root.join("specs"), root.join("testdata"), root.join("bench")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "spec") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether a specification is meant to compile.
fn valid(path: &Path) -> bool {
    path.components().all(|part| part.as_os_str() != "diag")
}

/// Everything but blanks, in order; comments may have moved before their statement.
fn content(source: &str) -> (String, Vec<String>) {
    let mut comments = Vec::new();
    let mut tokens = String::new();
    for line in source.lines() {
        let (code, comment) = line.split_once("//").map_or((line, None), |(code, rest)| (code, Some(rest)));
        tokens.extend(code.split_whitespace());
        comments.extend(comment.map(|text| text.trim_end().to_owned()));
    }
    (tokens, comments)
}

#[test]
fn formatting_keeps_everything_and_is_idempotent() {
    let mut formatted = 0;
    for path in specifications() {
        let Ok(source) = std::fs::read_to_string(&path) else { continue };
        let once = match format("a.spec", &source) {
            Ok(once) => once,
            Err(diagnostics) => {
                // Only what is no statement has no layout.
                let unsound = |code: &str| matches!(code, "E0200" | "E0201" | "E0202");
                let codes: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.code.id).collect();
                assert!(codes.iter().all(|code| unsound(code)), "{}: {codes:?}", path.display());
                assert!(!valid(&path), "{}: {codes:?}", path.display());
                continue;
            }
        };
        assert_eq!(content(&source), content(&once), "{}", path.display());
        assert_eq!(format("a.spec", &once).unwrap(), once, "{}", path.display());
        for line in once.lines() {
            assert!(!line.ends_with(' ') && !line.contains('\t'), "{}: `{line}`", path.display());
        }
        formatted += 1;
    }
    assert!(formatted > 30, "{formatted}");
}

#[test]
fn shipped_specifications_are_formatted() {
    for path in specifications().iter().filter(|path| path.parent().unwrap().ends_with("specs")) {
        let source = std::fs::read_to_string(path).unwrap();
        assert_eq!(format("a.spec", &source).unwrap(), source, "{}", path.display());
    }
}

#[test]
fn blanks_are_ours() {
    let source = "// head\r\nspec a v1 ;\n\n\n\nattach   xdp;flow conn on tcp,udp{\n\n\tkey five_tuple bidirectional; // both\n\
        capacity 65_536 evict lru; /\
        / many\n// alone\nidle\n120 s;\nend tcp.fin or tcp.rst;\n\n}\n\
        features of conn { a=max( l4 . payload_len )where(fwd and not(tcp . syn))in 0 .. 1500;\n\
        long_name = mean(gap)as ms where fwd // inside\n;\n\nb = count()*-1 - 2; }\n\
        model {labels benign,attack;}\nclassify conn at end , every 16 packets;\n\
        on attack when p>=0.95{drop;block ip.src for 10 min;report;}";
    let expected = "\
// head
spec a v1;

attach xdp;
flow conn on tcp, udp {
    key      five_tuple bidirectional;  // both
    capacity 65_536 evict lru;          // many
    // alone
    idle     120 s;
    end      tcp.fin or tcp.rst;
}
features of conn {
    a         = max(l4.payload_len) where (fwd and not (tcp.syn)) in 0..1500;
    // inside
    long_name = mean(gap) as ms where fwd;

    b = count() * -1 - 2;
}
model { labels benign, attack; }
classify conn at end, every 16 packets;
on attack when p >= 0.95 { drop; block ip.src for 10 min; report; }
";
    assert_eq!(format("a.spec", source).unwrap(), expected);
}

#[test]
fn long_statements_are_continued() {
    let condition = ["tcp.syn"; 20].join(" and ");
    let source = format!("features of conn {{ a = count() where {condition}; }}");
    let once = format("a.spec", &source).unwrap();
    assert!(once.lines().count() > 3 && once.lines().all(|line| line.len() <= 100), "{once}");
    assert_eq!(format("a.spec", &once).unwrap(), once);
}

#[test]
fn parameters_stand_where_numbers_do() {
    // Those of the file itself, and those of files that use it or that it uses.
    let source = "use \"limits.spec\";\nparam rate = 3;\nparam few = 2;\n\
        flow conn on tcp, udp { capacity many evict lru; idle quiet; }\n\
        features of conn { a = count() * rate clip 0..most; b = max(l4.len) in low..high; }\n\
        classify conn at every few packets, after soon;\n\
        on odd when p >= sure { block ip.src for pause; report few in rate; report 1 in seldom; }\n";
    let once = format("a.spec", source).unwrap();
    assert_eq!(content(source), content(&once));
    assert_eq!(format("a.spec", &once).unwrap(), once);
    let codes = |source| format("a.spec", source).unwrap_err()[0].code.id;
    assert_eq!(codes("flow conn on tcp { capacity idle 120 s; }"), "E0201");
    assert_eq!(codes("flow conn on tcp { capacity ; }"), "E0201");
}

#[test]
fn what_is_no_statement_is_refused() {
    let diagnostics = format("a.spec", "spec a v1;\nattach;\n").unwrap_err();
    assert_eq!(diagnostics[0].code.id, "E0201");
}
