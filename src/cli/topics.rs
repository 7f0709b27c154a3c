//! What `stead help TOPIC` knows besides the commands: the pages of `docs/`, which are in the program, and the names of
//! the references, which are made from the grammar and from the command line.

/// The pages, by the names of their files.
const PAGES: &[(&str, &str)] = &[
    ("five-minutes", include_str!("../../docs/five-minutes.md")),
    ("dockerfiles", include_str!("../../docs/dockerfiles.md")),
    ("nix", include_str!("../../docs/nix.md")),
    ("dev-loop", include_str!("../../docs/dev-loop.md")),
    ("reuse", include_str!("../../docs/reuse.md")),
    ("direnv", include_str!("../../docs/direnv.md")),
    ("lsp", include_str!("../../docs/lsp.md")),
    ("ci", include_str!("../../docs/ci.md")),
    ("security", include_str!("../../docs/security.md")),
    ("reproducibility", include_str!("../../docs/reproducibility.md")),
    ("how-it-works", include_str!("../../docs/how-it-works.md")),
    ("exit-codes", include_str!("../../docs/exit-codes.md")),
];

/// The references, by the names of their schemas' manuals; `docs/` has links to them. Their texts are made by `stead schema`.
const REFERENCES: &[(&str, &str)] =
    &[("language", "every word of a project file"), ("commands", "every command with its options")];

/// The names of all topics.
pub fn names() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(name, _)| *name).chain(REFERENCES.iter().map(|(name, _)| *name))
}

/// The Markdown text of a page.
pub fn page(name: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// What a topic is about.
pub fn title(name: &str) -> &'static str {
    if let Some((_, title)) = REFERENCES.iter().find(|(known, _)| *known == name) {
        return title;
    }
    let text = page(name).unwrap_or_default();
    let first = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    // The name stands before it.
    first.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    #[test]
    fn each_page_of_the_documentation_is_a_topic_with_a_title() {
        for entry in std::fs::read_dir("docs").unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".md").filter(|name| *name != "SUMMARY") else { continue };
            if !REFERENCES.iter().any(|(known, _)| *known == name) {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                assert_eq!(page(name), Some(text.as_str()), "add it to `PAGES`: {name}");
            }
            assert!(!title(name).is_empty(), "{name} has no title");
        }
        assert!(names().any(|name| name == "direnv") && page("SUMMARY").is_none());
        assert_eq!(title("direnv"), "a container's variables in your own shell");
    }

    /// The words of a line of a shell, up to what is no argument any more.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (c, quote) {
                (c, Some(mark)) if c == mark => quote = None,
                ('"' | '\'', None) => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (' ', None) => words.extend(word.take()),
                (';' | '|' | '>' | '&', None) => break,
                ('#', None) if word.is_none() => break,
                (c, _) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    /// Lines of a shell that call this program, of a page's blocks.
    fn calls(text: &str) -> Vec<Vec<String>> {
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
        let lines = blocks.flat_map(|(block, _)| block.lines()).map(words);
        lines.filter_map(|words| words.iter().take(3).position(|word| word == "stead").map(|at| words[at..].to_vec())).collect()
    }

    #[test]
    fn every_command_of_a_page_is_one_that_exists() {
        let mut seen = 0;
        for (name, text) in PAGES.iter().copied().chain([("README", include_str!("../../README.md"))]) {
            for call in calls(text) {
                seen += 1;
                match super::super::command().try_get_matches_from(&call) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
                    Err(error) => panic!("{name}: {}: {error}", call.join(" ")),
                }
            }
            // In a sentence, what follows may be a placeholder.
            let command = super::super::command();
            for code in text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("stead ")) {
                let first = code.split_whitespace().next().unwrap_or_default();
                let is_placeholder = first.starts_with('-') || first.chars().all(|c| !c.is_ascii_lowercase());
                assert!(is_placeholder || first == "oci" || command.find_subcommand(first).is_some(), "{name}: stead {code}");
            }
        }
        assert!(seen > 50, "{seen}");
        assert_eq!(words("stead run web python3 -c \"print(1)\" > x"), ["stead", "run", "web", "python3", "-c", "print(1)"]);
        assert_eq!(calls("```sh\nsudo stead up   # first\ncd x\n```\nstead no\n"), [["stead", "up"]]);
    }
}
