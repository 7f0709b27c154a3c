//! The language reference and the schema, generated from the grammar table.

use super::grammar::{Kind, Node};
use super::language::TOP;
use crate::model::bounds::{Bound, TABLE};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The reference manual of the language, in Markdown.
pub fn reference() -> String {
    let mut out = String::from(
        "# The stead language\n\n\
         Generated from the grammar table in `src/spec/language.rs`; do not edit.\n\n\
         A project file is [KDL 2](https://kdl.dev). Sizes are text with a unit (`\"256MiB\"`; B KiB MiB GiB TiB kB MB GB), durations too \
         (`\"30s\"`; ms s m h). `${name}` in a text is the value of a `param`; `$${` is a literal `${`. \
         The order of nodes never matters, except for the steps of an image. A path of the project or the host is relative to the \
         file that it is written in.\n",
    );
    for node in TOP {
        section(node, 2, "", &mut out);
    }
    limits(&mut out);
    out
}

fn limits(out: &mut String) {
    out.push_str(
        "\n## Limits\n\n\
         Input from outside is limited. All files of a project are ordinary files in its directory; links out of it, \
         FIFOs and devices are refused. A secret, config, `env-file`, filter or key may lie elsewhere if its path is \
         absolute or has `..`. Ignore files, `env-file`s and all other text files are UTF-8. \
         A file that is included twice is read once.\n\n\
         | what | limit | beyond |\n| --- | --- | --- |\n",
    );
    for Bound { what, limit, beyond } in TABLE {
        let _ = writeln!(out, "| {what} | {limit} | {beyond} |");
    }
}

fn section(node: &Node, level: usize, path: &str, out: &mut String) {
    let path = if path.is_empty() { node.name.to_owned() } else { format!("{path} › {}", node.name) };
    let _ = write!(out, "\n{} {path}\n\n{}", "#".repeat(level.min(4)), node.doc);
    if node.many {
        out.push_str(" May be repeated.");
    }
    match node.default.map(|default| default.written()) {
        Some(default) if !default.is_empty() => {
            let _ = write!(out, " Without it: {default}.");
        }
        _ => {}
    }
    if node.later {
        out.push_str(" **Checked, and refused by `up` in this version.**");
    }
    let _ = write!(out, " (since {})\n\n```kdl\n{}\n```\n", node.since, node.example);
    let mut rows = Vec::new();
    for arg in node.args {
        rows.push((
            arg.name.to_owned(),
            kind_text(arg.kind),
            (if arg.required { "required" } else { "optional" }).to_owned(),
            String::from("argument"),
        ));
    }
    if let Some(rest) = node.rest {
        rows.push((format!("{}…", rest.name), kind_text(rest.kind), "optional".to_owned(), "further arguments".into()));
    }
    for prop in node.props {
        let default = prop.default.map(|default| format!("else {}", default.written()));
        let given = if prop.required { "required" } else { "optional" };
        rows.push((
            format!("{}=", prop.name),
            kind_text(prop.kind),
            default.unwrap_or_else(|| given.to_owned()),
            prop.doc.into(),
        ));
    }
    if let Some(free) = node.free {
        rows.push(("NAME=".into(), kind_text(free), "optional".to_owned(), "names of your choosing".into()));
    }
    if !rows.is_empty() {
        out.push_str("\n| | value | | |\n| --- | --- | --- | --- |\n");
        for (name, kind, required, doc) in rows {
            let _ = writeln!(out, "| `{name}` | {kind} | {required} | {doc} |");
        }
    }
    for child in node.children {
        section(child, level + 1, &path, out);
    }
}

/// What a value may be, in words.
pub fn kind_text(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Program => "program".into(),
        Kind::Name => "name".into(),
        Kind::Host => "host name".into(),
        Kind::Path => "path".into(),
        Kind::File => "path, from the file it is in".into(),
        Kind::FileOr(words) => {
            format!(
                "path, from the file it is in, or {}",
                words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" ")
            )
        }
        Kind::Origin => "URL, or path from the file it is in".into(),
        Kind::Pattern => "pattern of paths".into(),
        Kind::FilePattern => "pattern of paths, from the file it is in".into(),
        Kind::Integer(low, high) if high >= i128::from(i64::MAX) => format!("whole number from {low}"),
        Kind::Integer(low, high) => format!("whole number, {low} to {high}"),
        Kind::Number => "number above 0".into(),
        Kind::Flag => "`#true` or `#false`".into(),
        Kind::FlagOr(words) => {
            format!("`#true` or `#false`, or {}", words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" "))
        }
        Kind::Size => "size".into(),
        Kind::Duration => "duration".into(),
        Kind::Ports => "port or range".into(),
        Kind::Address => "IPv4 address".into(),
        Kind::Subnet => "IPv4 subnet".into(),
        Kind::Mode => "octal permissions, as text".into(),
        Kind::Permissions => "permissions, octal or as in chmod, as text".into(),
        Kind::Choice(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" "),
        Kind::Plain => "text, number or flag".into(),
    }
}

/// The grammar as JSON, for editors and other programs.
pub fn schema() -> String {
    let value = json!({ "language": "stead", "version": 1, "nodes": TOP.iter().map(node_schema).collect::<Vec<_>>() });
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

fn node_schema(node: &Node) -> Value {
    json!({
        "name": node.name,
        "doc": node.doc,
        "example": node.example,
        "since": node.since,
        "many": node.many,
        "supported": !node.later,
        "default": node.default.map(|default| default.written()).filter(|default| !default.is_empty()),
        "arguments": node.args.iter().map(|arg| json!({"name": arg.name, "kind": kind_text(arg.kind), "required": arg.required})).collect::<Vec<_>>(),
        "further": node.rest.map(|rest| json!({"name": rest.name, "kind": kind_text(rest.kind)})),
        "properties": node.props.iter().map(|prop| json!({"name": prop.name, "kind": kind_text(prop.kind), "required": prop.required, "default": prop.default.map(|default| default.written()), "doc": prop.doc})).collect::<Vec<_>>(),
        "free": node.free.map(kind_text),
        "children": node.children.iter().map(node_schema).collect::<Vec<_>>(),
    })
}
