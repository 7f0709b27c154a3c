//! Draws a project's graph: as text for Graphviz and for Mermaid, and as a picture of our own.
//!
//! The same graph always gives the same bytes, so that a drawing can be kept beside the project file.

mod dot;
mod layout;
mod mermaid;
mod svg;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

use crate::engine::Part;

/// The colour of all lines.
const LINE: &str = "#64748b";
/// The colour of all text.
const INK: &str = "#0f172a";

/// What a box is filled with.
const fn fill(part: Part) -> &'static str {
    match part {
        Part::Container => "#dbeafe",
        Part::Image => "#dcfce7",
        Part::Network => "#fef3c7",
        Part::Volume => "#f3e8ff",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Graph, graph};
    use crate::spec::project_of;

    fn of(text: &str) -> Graph {
        graph(&project_of(text))
    }

    const SHOP: &str = r#"
project "shop"
image "base" { debian "bookworm" { package "python3" } }
image "app" { from "base"; copy "app/" to="/srv"; }
network "back" internal=#true
volume "data"
container "cache" { image "base"; network "back"; mount volume="data" to="/data"; healthcheck { tcp 6379; }; }
container "web" { image "app"; replicas 2; network "back"; publish 8080 to=80; depends-on "cache" until="healthy"; }
"#;

    #[test]
    fn graphviz_gets_quoted_names() {
        insta::assert_snapshot!(dot(&of(SHOP)), @r##"
        digraph "shop" {
          rankdir=LR;
          node [style="rounded,filled", color="#64748b", fontcolor="#0f172a", fontname="sans-serif"];
          edge [color="#64748b", fontcolor="#0f172a", fontname="sans-serif", fontsize=10];
          "container cache" [label="cache", shape=box, fillcolor="#dbeafe"];
          "container web" [label="web\n2 replicas\n127.0.0.1:8080 → 80", shape=box, fillcolor="#dbeafe"];
          "image app" [label="app", shape=folder, fillcolor="#dcfce7"];
          "image base" [label="base", shape=folder, fillcolor="#dcfce7"];
          "network back" [label="back\ninternal", shape=ellipse, fillcolor="#fef3c7"];
          "volume data" [label="data", shape=cylinder, fillcolor="#f3e8ff"];
          "container cache" -> "image base";
          "container cache" -> "network back";
          "container cache" -> "volume data";
          "container web" -> "container cache" [label="healthy"];
          "container web" -> "image app";
          "container web" -> "network back";
          "image app" -> "image base";
        }
        "##);
    }

    #[test]
    fn mermaid_gets_numbers_for_names() {
        insta::assert_snapshot!(mermaid(&of(SHOP)), @r##"
        flowchart LR
          c1("cache")
          c2("web<br/>2 replicas<br/>127.0.0.1:8080 → 80")
          i1["app"]
          i2["base"]
          n1{{"back<br/>internal"}}
          v1[("data")]
          c1 --> i2
          c1 --> n1
          c1 --> v1
          c2 -->|"healthy"| c1
          c2 --> i1
          c2 --> n1
          i1 --> i2
          classDef container fill:#dbeafe,stroke:#64748b,color:#0f172a
          class c1,c2 container
          classDef image fill:#dcfce7,stroke:#64748b,color:#0f172a
          class i1,i2 image
          classDef network fill:#fef3c7,stroke:#64748b,color:#0f172a
          class n1 network
          classDef volume fill:#f3e8ff,stroke:#64748b,color:#0f172a
          class v1 volume
        "##);
    }

    /// The names of the elements that are open at the end, and all text outside of tags. It panics where tags do not match.
    fn parsed(xml: &str) -> (Vec<String>, String) {
        let (mut open, mut words, mut rest) = (Vec::new(), String::new(), xml);
        while let Some((before, after)) = rest.split_once('<') {
            words.push_str(before);
            words.push('\n');
            let (tag, after) = after.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "a quote is open: {tag}");
            let name = |tag: &str| tag.split([' ', '\n']).next().unwrap_or_default().to_owned();
            match tag.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed)),
                None if tag.ends_with('/') => {}
                None => open.push(name(tag)),
            }
            rest = after;
        }
        words.push_str(rest);
        (open, words)
    }

    #[test]
    fn the_picture_of_the_readme_is_xml_with_every_name() {
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        let shop = readme.split("```kdl\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let graph = of(shop);
        let picture = svg(&graph);
        let (open, words) = parsed(&picture);
        assert_eq!(open, Vec::<String>::new());
        assert!(graph.vertices.len() >= 6, "{graph:?}");
        for vertex in &graph.vertices {
            assert!(words.lines().any(|line| line == vertex.name), "{} is missing in {words}", vertex.name);
        }
        assert!(words.contains("127.0.0.1:8080 → 5000") && words.contains("healthy"), "{words}");
        assert_eq!(svg(&of(shop)), picture, "the same project gives the same bytes");
    }

    #[test]
    fn what_others_wrote_stays_text() {
        let mut graph = of(SHOP);
        graph.vertices[0].name = "<a href=\"x\">&'\u{1b}[2J`\\N\"#".to_owned();
        let (open, words) = parsed(&svg(&graph));
        assert_eq!(open, Vec::<String>::new());
        assert!(words.contains("&lt;a href=&quot;x&quot;&gt;&amp;&apos;\\u{1b}[2J`"), "{words}");
        let text = dot(&graph);
        assert!(text.contains(r##"label="<a href=\"x\">&'\\u{1b}[2J`\\N\"#""##), "{text}");
        let text = mermaid(&graph);
        assert!(text.contains(r##"c1("#lt;a href=#quot;x#quot;#gt;#amp;'\u{1b}[2J#96;\N#quot;#35;")"##), "{text}");
    }
}
