//! Texts as an editor has them, whole and broken, and what is found in them.

use super::*;

/// The nodes of a text as a line: names, values, and blocks.
fn shown(text: &str) -> String {
    fn show(text: &str, scan: &Scan, parent: Option<usize>) -> String {
        let one = |node: usize| {
            let entries: String = scan
                .entries(node)
                .map(|(_, entry)| {
                    let name = entry.name.as_ref().map_or_else(String::new, |name| format!("{}=", &text[name.clone()]));
                    format!(" {name}{}", &text[entry.value.clone()])
                })
                .collect();
            let block = scan.nodes[node].block.map_or_else(String::new, |_| format!(" {{ {} }}", show(text, scan, Some(node))));
            format!("{}{entries}{block}", &text[scan.nodes[node].name.clone()])
        };
        scan.children(parent).map(one).collect::<Vec<_>>().join("; ")
    }
    show(text, &Scan::new(text), None)
}

#[test]
fn texts_are_scanned_whether_they_are_right_or_wrong() {
    for (text, want) in [
        ("a 1\nb 2", "a 1; b 2"),
        ("\u{feff}a \"x y\" k=\"v\" { b; c #true }\n", "a \"x y\" k=\"v\" { b; c #true }"),
        ("a k= l=\"v\"", "a k= l=\"v\""),
        ("a k = \"v\"", "a k=\"v\""),
        ("a \"x {\n  b\n}\nc", "a \"x { b }; c"),
        ("a {\n  b {\n    c\nd\ne {\n f\n}", "a { b { c } }; d; e { f }"),
        ("a {\n  b", "a { b }"),
        ("a 1 // x { y\nb /* { */ 2", "a 1; b 2"),
        ("a \\\n  1 \\ // why\n  2\nb", "a 1 2; b"),
        ("a /-1 2", "a 2"),
        ("a #\"x\"y\"# \"\"\"\n  t\n  \"\"\"\nb", "a #\"x\"y\"# \"\"\"\n  t\n  \"\"\"; b"),
        ("(t)a (u)1 k=(w)2", "a 1 k=2"),
        ("}}a\n}b", "a; b"),
        ("image redis:7 8080:80 app/x", "image redis:7 8080:80 app/x"),
        ("a \"\\\"\" 1\r\nb\r\n", "a \"\\\"\" 1; b"),
        ("(x)}\na", "; a"),
        ("{ a }", " { a }"),
    ] {
        assert_eq!(shown(text), want, "{text:?}");
    }
}

#[test]
fn what_is_commented_out_is_known() {
    let text = "/-a 1 {\n  b\n}\nc";
    let scan = Scan::new(text);
    let off: Vec<_> = scan.nodes.iter().map(|node| (&text[node.name.clone()], node.off)).collect();
    assert_eq!(off, [("a", Some(0)), ("b", Some(0)), ("c", None)]);
}

/// The slot at the cursor of a text.
fn slot(marked: &str) -> String {
    let offset = marked.find('█').unwrap();
    let text = marked.replace('█', "");
    let scan = Scan::new(&text);
    let name = |node: usize| text[scan.nodes[node].name.clone()].to_owned();
    match scan.slot(offset) {
        Slot::Nothing => "nothing".into(),
        Slot::Name { parent, replace, .. } => format!("name in {} [{}]", parent.map_or("-".into(), name), &text[replace]),
        Slot::Argument { node, index, replace, .. } => format!("argument {index} of {} [{}]", name(node), &text[replace]),
        Slot::Property { node, replace, .. } => format!("property of {} [{}]", name(node), &text[replace]),
        Slot::Value { node, replace, .. } => format!("value of {} [{}]", name(node), &text[replace]),
    }
}

#[test]
fn the_cursor_is_somewhere() {
    for (text, want) in [
        ("█", "name in - []"),
        ("con█", "name in - [con]"),
        ("container \"web\" {\n    █\n}", "name in container []"),
        ("container \"web\" {\n    im█\n}\n", "name in container [im]"),
        ("container \"web\" {█}", "name in container []"),
        ("container \"web\" {\n    █", "name in container []"),
        ("a {\n  b {\n    █\nc", "name in b []"),
        ("a {\n  b\n}█", "name in - []"),
        ("copy █", "argument 0 of copy []"),
        ("copy \"x\" █", "argument 1 of copy []"),
        ("copy \"x█", "argument 0 of copy [\"x]"),
        ("copy \"x\" t█ from=\"y\"", "argument 1 of copy [t]"),
        ("copy \"x\" to=█", "value of copy []"),
        ("copy \"x\" to=\"/a█\"", "value of copy [\"/a\"]"),
        ("copy \"x\" t█o=\"/a\"", "property of copy [to]"),
        ("copy \"x\"; █", "name in - []"),
        ("copy // x █", "nothing"),
        ("copy /* █ */", "nothing"),
        ("/* */█", "name in - []"),
    ] {
        assert_eq!(slot(text), want, "{text:?}");
    }
}

#[test]
fn values_are_decoded() {
    let all = |text: &str| decoded(text, &(0..text.len())).into_owned();
    assert_eq!(all("word"), "word");
    assert_eq!(all("\"a\\\"b\\u{e9}\\n\""), "a\"bé\n");
    assert_eq!(all("#\"a\\n\"b\"#"), "a\\n\"b");
    assert_eq!(all("\"open"), "open");
    assert_eq!(all("\""), "");
    assert_eq!(all("#\""), "");
}

#[test]
fn garbage_ends_and_keeps_its_bounds() {
    for text in [
        "{".repeat(1 << 20),
        "a {".repeat(300_000),
        "}\n".repeat(500_000),
        "\"\\".repeat(500_000),
        "/*".repeat(500_000),
        "#".repeat(1 << 20),
        "a=b ".repeat(250_000),
        "(".repeat(1 << 20),
        "\\".repeat(1 << 20),
        "é\u{2028}🦀\"".repeat(100_000),
        "/-".repeat(500_000),
    ] {
        let scan = Scan::new(&text);
        assert!(scan.nodes.len() + scan.entries.len() <= PARTS + 2, "{}", &text[..4]);
        for offset in [0, 1, text.len() / 2, text.len()] {
            scan.slot(offset);
            scan.node_at(offset);
        }
    }
}

#[test]
fn any_prefix_of_a_text_can_be_scanned() {
    let text = "\u{feff}a \"é\\\"\" k=#true { /-b 1; c #\"r\"# /* é */ \\\n 2 }\r\n(t)\"d\" \"\"\"\n🦀\n\"\"\" // é\n";
    for (end, _) in text.char_indices() {
        let scan = Scan::new(&text[..end]);
        for offset in 0..=end {
            scan.slot(offset);
        }
        for range in scan.nodes.iter().map(|node| node.name.clone()).chain(scan.entries.iter().map(Entry::whole)) {
            assert!(text.get(range.clone()).is_some(), "{range:?}");
            decoded(&text[..end], &range);
        }
    }
}
