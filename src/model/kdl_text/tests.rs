//! Which texts are accepted, and that the `kdl` crate accepts the same ones.

use super::*;

const LIMITS: Limits = Limits { nesting: 32, parts: 1000 };

fn told(text: &str) -> Vec<String> {
    read(text, LIMITS).map_or_else(|wrong| wrong.into_iter().map(|wrong| wrong.message).collect(), |_| Vec::new())
}

#[test]
fn legal_texts_come_through() {
    for text in [
        "",
        "\u{feff}a 1 2.5 -3 0x1F_ab 0o17 0b1_0 1e5 +1.5E-3 #true #null #-inf",
        "a b=\"c\" d=(t)1;e",
        "a \"\\u{e9} \\s \\\" \\\n   x\"",
        "(t)a (t)\"x\" k = (t) 1 {\n b; c\n}",
        "a #\"raw \\ \"# ##\"with \"# in it\"## r",
        "a \"\"\"\n  first\n\n    second \\\n      more \"\" quotes\n  \"\"\"",
        "a #\"\"\"\n  raw \\x\n   \"\"\n  \"\"\"#",
        "a \"\"\"\n\"\"\" \"\" #\"\"#",
        "a \\ // goes on\n  1 /* c /* d */ \n e */ 2 // end\nb{}",
        "/- a b { c }; d\n/- e\nf /-1 2 /-k=3 /-{ x; y } { z /-\n 1 } /- {}\n/-g",
        "- + . -. .a --x",
        "a\r\nb\u{85}c\u{2028}d // x\u{b}e",
        "a {b}; c { d; }",
    ] {
        assert_eq!(told(text), Vec::<String>::new(), "{text:?}");
    }
    let text = "a /- 1 /* x */ 2 // c\n/- b { c }\nd";
    let read = read(text, LIMITS).unwrap();
    let names: Vec<&str> = read.nodes().iter().map(|node| node.name().value()).collect();
    assert_eq!((names, read.nodes()[0].entries().len()), (vec!["a", "d"], 1));
    assert_eq!(plain(text, LIMITS).unwrap().0, "a              2     \n          \nd");
}

#[test]
fn others_are_told_where_they_are_wrong() {
    for (text, offset, says) in [
        ("a {", 2, "no closing"),
        ("a }", 2, "end of document"),
        ("{ a }", 0, "instead of node name"),
        ("a \"b\nc", 2, "unexpected newline"),
        ("a \"b\\q\"", 4, "no such escape"),
        ("a \"\\u{d800}\"", 3, "not a character"),
        ("a \"b\"c", 5, "a space is missing"),
        ("a true", 2, "needs a `#`"),
        ("a #yes", 2, "no keyword `#yes`"),
        ("a 1x", 2, "is not a number"),
        ("a 1=2", 3, "only a name"),
        ("a b=", 4, "something is missing"),
        ("a {} b", 5, "has not ended"),
        ("a {} {}", 5, "only one block"),
        ("1 a", 1, "not with a number"),
        ("a /* /* */", 2, "no end"),
        ("a \\ b", 2, "backslash"),
        ("/-", 0, "but nothing follows"),
        ("a /- /- 1", 2, "but nothing follows"),
        ("a (t", 2, "a type is"),
        ("a \"\"\"b\"\"\"", 2, "followed by a newline"),
        ("a \"\"\"\n b\n  \"\"\"", 6, "not indented like"),
        ("a \"\"\"\n b\"\"\"", 8, "on a line of their own"),
        ("a #\"b", 2, "no end"),
        ("a \u{1}", 2, "U+0001"),
        ("a;;b", 2, "not allowed here"),
        ("a [1]", 2, "no lists"),
        ("a b://c", 2, "in quotes"),
    ] {
        let wrong = read(text, LIMITS).unwrap_err();
        assert!(wrong[0].offset == offset && wrong[0].message.contains(says), "{text:?}: {wrong:?}");
    }
    let several = read("a true\nb {\nc 1x }\nd\ne {} f\n", LIMITS).unwrap_err();
    assert_eq!(several.iter().map(|wrong| wrong.offset).collect::<Vec<_>>(), [2, 13, 25]);
    assert!(read(&"a \"\n".repeat(1000), LIMITS).unwrap_err().len() == ERRORS);
}

#[test]
fn every_error_of_a_line_is_told_unless_it_follows_from_another() {
    for (text, wanted) in [
        ("a true 1x", &[2, 7][..]),
        ("a true false null", &[2, 7, 13]),
        ("a 1x=true", &[2]),
        ("a 1x true", &[2, 5]),
        ("a true; b 1x", &[2, 10]),
        ("a { b true; c #yes }", &[6, 14]),
        ("a \"x\\q\" \"y\\u{}\" 3z", &[4, 10, 16]),
        ("a [1]; b true; c [2]", &[2, 9, 17]),
        ("a {} b true", &[5, 7]),
        ("a \"x\", \"y\", \"z\" true", &[5, 16]),
        ("a 1x \u{e9} 2y", &[2, 8]),
        ("a 1x // b true", &[2]),
        ("a 1x /- true", &[2]),
        // What may belong to something else is no error of its own.
        ("a \"b; c true", &[2]),
        ("a \"b\"c\"; d true", &[5]),
        ("a /* b; c true", &[2]),
        ("a #\"b; c true", &[2]),
        ("a \"\"\"b\\q\"\"\"; c true", &[2]),
        ("a \"\"\"\n b \\q; c true\n \"\"\"", &[9, 21]),
        ("# a comment; b true", &[0]),
        ("= 1; b true", &[0]),
        ("a r#\"x\"#; b true", &[2, 12]),
        ("a [ 1, 2x ]", &[2]),
    ] {
        let found: Vec<usize> = read(text, LIMITS).unwrap_err().iter().map(|wrong| wrong.offset).collect();
        assert_eq!(found, wanted, "{text:?}");
    }
    let many = read(&format!("a {}", "true ".repeat(99)), LIMITS).unwrap_err();
    assert_eq!(many.len(), ERRORS);
}

#[test]
fn slips_are_told_with_what_to_write() {
    for (text, marked, help) in [
        ("# x  y ", "#", "write `// x  y`"),
        ("a 1 #", "#", "a comment begins with `//`"),
        ("a 1 # x", "#", "write `// x`"),
        ("a #no tag", "#", "write `// no tag`"),
        ("a { b } # x", "#", "write `// x`"),
        ("a #True", "#True", "write `#true`"),
        ("a #x", "#x", "a comment begins with `//`; text must be in quotes: \"#x\""),
        ("publish 8080:80", "8080:80", "write `publish 8080 to=80`"),
        (
            "a { publish 127.0.0.1:80-81:90-91/udp }",
            "127.0.0.1:80-81:90-91/udp",
            "write `publish \"80-81\" to=\"90-91\" address=\"127.0.0.1\" protocol=\"udp\"`",
        ),
        ("expose 53/udp", "53/udp", "write `expose 53 protocol=\"udp\"`"),
        ("publish 80-90", "80-90", "write `publish \"80-90\"`"),
        ("user 33:33", "33:33", "write \"33:33\""),
        ("memory 1.5g;", "1.5g", "write \"1536MiB\""),
        ("memory 512m, x", "512m", "write \"512MiB\""),
        ("stop-grace 5m", "5m", "write \"5m\""),
        ("healthcheck interval=1m30s", "1m30s", "write \"90s\""),
        ("a 2026-01-01T00:00", "2026-01-01T00:00", "write \"2026-01-01T00:00\""),
        ("image docker.io/library/redis:7 x", "docker.io/library/redis:7", "write \"docker.io/library/redis:7\""),
        ("copy ./app to=/srv/app", "./app", "write \"./app\""),
        ("mount to=/srv/app;", "/srv/app", "write \"/srv/app\""),
        ("env A=redis://cache:6379", "redis://cache:6379", "write \"redis://cache:6379\""),
        ("workdir $(pwd)/x", "$(pwd)/x", "write \"$(pwd)/x\""),
        ("image 'app'", "'app'", "write \"app\""),
        ("image “app”", "“app”", "write \"app\""),
        ("image = app", "=", "write `image \"app\"`"),
        ("replicas=2;", "=", "write `replicas 2`"),
        ("a b = = 2", "=", "values have no `=` in front: image \"app\"; a property has one: to=\"/x\""),
        ("cmd [\"a b\", c]", "[\"a b\", c]", "write `cmd \"a b\" \"c\"`"),
        ("s { capability add=[\"A\", \"B\"] }", "[\"A\", \"B\"]", "write `capability add=\"A\"; capability add=\"B\"`"),
        ("env A=[1 2]", "[1 2]", "write `env A=\"1 2\"`"),
        ("a [", "[", "give several values, or write the line several times"),
        ("[container.web]", "[container.web]", "as in: container \"web\" { image \"app\" }"),
    ] {
        let wrong = read(text, LIMITS).unwrap_err().remove(0);
        assert_eq!(&text[wrong.offset..wrong.offset + wrong.length], marked, "{text}: {wrong:?}");
        assert_eq!(wrong.help.as_deref(), Some(help), "{text}: {wrong:?}");
    }
    for legal in ["a b:// c", "a b: // c", "env A='s B=’s", "a b//c", "a b/*c*/"] {
        assert!(read(legal, LIMITS).is_ok(), "{legal}");
    }
}

#[test]
fn limits_hold_before_anything_is_built() {
    let kind = |text: &str| read(text, LIMITS).unwrap_err()[0].kind;
    assert!(read(&format!("{}{}", "a {".repeat(32), "}".repeat(32)), LIMITS).is_ok());
    assert_eq!(kind(&format!("{}{}", "a {".repeat(33), "}".repeat(33))), Kind::TooDeep);
    assert_eq!(kind(&"a {".repeat(1 << 18)), Kind::TooDeep);
    assert_eq!(kind(&"{".repeat(1 << 18)), Kind::Syntax);
    for wrapped in ["a /- {", "/- a {\nb\n", "a {\nb\n/- c {"] {
        let nested = |depth: usize| format!("{}{}", wrapped.repeat(depth), "}".repeat(depth * wrapped.matches('{').count()));
        assert!(read(&nested(8), LIMITS).is_ok(), "{wrapped}");
        assert_eq!(kind(&nested(9)), Kind::TooDeep, "{wrapped}");
    }
    assert_eq!(kind(&"a\n".repeat(1001)), Kind::TooMany);
    assert_eq!(kind(&format!("a{}", " 1".repeat(1000))), Kind::TooMany);
    // Each repetition of these would make the crate recurse once more.
    for text in ["a)", "}", "a=", "a {}b ", "/-", "\"", "#", "(", "a\\", "/*", "*/"] {
        assert!(read(&text.repeat(1 << 16), LIMITS).unwrap_err().len() <= ERRORS, "{text}");
    }
    assert!(read(&format!("/*{} */ a", " * /".repeat(1 << 16)), LIMITS).is_ok());
    assert!(read(&format!("a // \u{b}{}", "b {".repeat(40)), LIMITS).is_err(), "a vertical tab ends a comment");
}

/// A text that is well-formed here is well-formed for the crate: it never has to recover from an error.
#[test]
fn the_crate_agrees() {
    let parts = [
        "a", "b", " ", " ", "\n", "{", "}", "{ c }", ";", "/-", "/*", "*/", "//", "\\\n", "\"", "\"x\"", "\"\"\"\n", "\n\"\"\"",
        "#\"", "\"#", "#", "#true", "1", "0x", "-", ".", "=", "(", ")", "(t)", "_", "e", "\\", "\\u{41}", "\t", "\r\n", "\u{85}",
        "é", ",", "true",
    ];
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut well_formed = 0;
    for _ in 0..200_000 {
        let text: String = (0..=next(10)).map(|_| parts[next(parts.len())]).collect();
        if let Ok((plain, _)) = plain(&text, LIMITS) {
            well_formed += 1;
            #[expect(clippy::disallowed_methods, reason = "the test compares with this parser")]
            let whole = KdlDocument::parse_v2(&plain);
            assert!(whole.is_ok(), "{text:?} is {plain:?}");
            // Piece by piece, it is the same.
            let read = recover(&text, LIMITS, &mut Known::default());
            let pieces: Vec<_> = read.parts.iter().flat_map(|(_, part)| part.nodes()).map(|node| node.name().value()).collect();
            let whole = whole.unwrap();
            let names: Vec<_> = whole.nodes().iter().map(|node| node.name().value()).collect();
            assert_eq!((pieces, read.wrong), (names, Vec::new()), "{text:?}");
        }
    }
    assert!(well_formed > 10_000, "{well_formed}");
}

/// The nodes that recovery keeps of a text, as KDL.
fn kept(text: &str) -> String {
    fn show(nodes: &[kdl::KdlNode]) -> String {
        let one = |node: &kdl::KdlNode| {
            let entries: String = node.entries().iter().map(|entry| format!(" {}", entry.to_string().trim())).collect();
            let block = node.children().map_or_else(String::new, |block| format!(" {{ {} }}", show(block.nodes())));
            format!("{}{entries}{block}", node.name().value())
        };
        nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }
    let read = recover(text, LIMITS, &mut Known::default());
    assert_eq!(read.wrong.is_empty(), read.lost.is_empty(), "{text:?}");
    read.parts.iter().map(|(_, part)| show(part.nodes())).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_is_wrong_costs_the_rest_of_its_line() {
    for (text, want) in [
        ("a 1\nb 2", "a 1; b 2"),
        ("a 1\nb 8080:80 x=1\nc", "a 1; b; c"),
        ("a 1 k=\"v\" true 2\nb", "a 1 k=\"v\"; b"),
        ("a \"x\" [ {\n  b\n}\nc", "a \"x\" { b }; c"),
        ("a \"x {\n  b\n}\nc", "a { b }; c"),
        ("a {\n  b \"x\n  c 2\n}\nd", "a { b; c 2 }; d"),
        ("a {\n  b\n}}\nd", "a { b }; d"),
        ("{\n b\n c }\nd", "d"),
        ("a {\n  b {\n    c\n  }\nd\ne {\n f\n}", "a { b { c } }; d; e { f }"),
        ("a {\n  b", "a { b }"),
        ("a {} {\n b\n}\nc", "a {  }; c"),
        ("/-a 1 = {\n b\n}\nc", "c"),
        ("a 1\n/* b\nc", "a 1"),
        ("a \"\"\"\nb", "a"),
        ("a k=", "a"),
        ("1 {\n b } x\nc", "c"),
        ("# comment\na 1", "a 1"),
        ("a [\rb\rc", "a; b; c"),
        ("a\n/-x {\n b\n", "a"),
        ("web: {\n  image app,\n}\nb 1", "web: { image app, }; b 1"),
    ] {
        assert_eq!(kept(text), want, "{text:?}");
    }
    let deep = "a {".repeat(100);
    assert!(recover(&deep, LIMITS, &mut Known::default()).parts.is_empty(), "nothing is recovered when a limit is exceeded");
}

#[test]
fn recovery_has_the_bounds_of_reading() {
    for text in [
        " b \\x {\n".repeat(20_000),
        format!("a = {}{}\n", "{".repeat(100_000), "}".repeat(100_000)),
        "a \"\\u{\n".repeat(20_000),
        format!("a {}/", "“b ".repeat(20_000)),
        format!("a {}/", "1x".repeat(20_000)),
        "}\n".repeat(100_000),
        " a{".repeat(100),
    ] {
        let read = recover(&text, Limits { nesting: 32, parts: 100_000 }, &mut Known::default());
        assert!(!read.wrong.is_empty() && read.wrong.len() <= ERRORS, "{}", read.wrong.len());
        assert!(read.lost.windows(2).all(|two| two[0].end < two[1].start), "in order, and apart");
    }
}

#[test]
fn what_was_read_before_makes_no_difference() {
    let text = "a 1 {\n  b \"x\" // c\n}\nd; e k=#true\na 1 {\n  b \"x\" // c\n}\n/- f {\n g }\nh \"\"\"\n  i\n  \"\"\" j\n";
    let mut known = Known::default();
    let shown = |read: &recover::Recovered| format!("{:?} {:?} {:?} {:?}", read.parts, read.plain, read.wrong, read.lost);
    // Somebody types the text, then takes something out of its middle.
    let typed = (0..=text.len()).filter(|end| text.is_char_boundary(*end)).map(|end| text[..end].to_owned());
    let taken = (0..30).map(|length| format!("{}{}", &text[..5], &text[5 + length..]));
    for text in typed.chain(taken) {
        let (again, anew) = (recover(&text, LIMITS, &mut known), recover(&text, LIMITS, &mut Known::default()));
        assert_eq!(shown(&again), shown(&anew), "{text:?}");
    }
}
