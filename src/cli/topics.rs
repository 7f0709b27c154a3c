//! What `stead help TOPIC` knows besides the commands: the exit codes, and the pages of `docs/`, which are in the program.

/// The topic that is not a page.
pub const EXIT_CODES: &str = "exit-codes";

/// The pages, by the names of their files.
const PAGES: &[(&str, &str)] = &[
    ("direnv", include_str!("../../docs/direnv.md")),
    ("lsp", include_str!("../../docs/lsp.md")),
    ("reuse", include_str!("../../docs/reuse.md")),
];

/// The names of all topics.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(EXIT_CODES).chain(PAGES.iter().map(|(name, _)| *name))
}

/// The Markdown text of a page.
pub fn page(name: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// What a topic is about.
pub fn title(name: &str) -> &'static str {
    let Some(text) = page(name) else { return "What each exit code means" };
    let first = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    // The name stands before it.
    first.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_of_the_documentation_is_a_topic_with_a_title() {
        for entry in std::fs::read_dir("docs").unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".md") else { continue };
            assert_eq!(
                page(name).map(str::to_owned),
                Some(std::fs::read_to_string(entry.path()).unwrap()),
                "add it to `PAGES`: {name}"
            );
            assert!(!title(name).is_empty(), "{name} has no title");
        }
        assert!(names().any(|name| name == "direnv") && page("exit-codes").is_none());
        assert_eq!(title("direnv"), "a container's variables in your own shell");
    }
}
