//! Alternatives: the links that `update-alternatives` would have made, read from maintainer scripts.
//!
//! Only calls with literal arguments are understood; debhelper writes them like that.

use std::collections::BTreeMap;

/// One call of `update-alternatives --install`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alternative {
    pub link: String,
    pub name: String,
    pub path: String,
    pub priority: i64,
    /// The slave links: link, name, path.
    pub slaves: Vec<(String, String, String)>,
}

/// Finds the calls in a script.
pub fn read(script: &str) -> Vec<Alternative> {
    let joined = script.replace("\\\n", " ");
    joined.lines().filter_map(|line| line.split_once("update-alternatives").map(|(_, rest)| rest)).filter_map(parse).collect()
}

fn parse(arguments: &str) -> Option<Alternative> {
    let end = arguments.find([';', '|', '&', '>']).unwrap_or(arguments.len());
    let mut words =
        arguments[..end].split_whitespace().map(|word| word.trim_matches(['"', '\''])).filter(|word| *word != "--quiet");
    if words.next()? != "--install" {
        return None;
    }
    let mut literal = || words.next().filter(|word| !word.contains(['$', '`'])).map(str::to_owned);
    let mut found = Alternative {
        link: literal()?,
        name: literal()?,
        path: literal()?,
        priority: literal()?.parse().ok()?,
        slaves: Vec::new(),
    };
    while let Some(word) = literal() {
        if word != "--slave" {
            return None;
        }
        found.slaves.push((literal()?, literal()?, literal()?));
    }
    Some(found)
}

/// For each name, makes the choice of automatic mode: the highest priority, and among equal ones the first.
pub fn choose(all: Vec<Alternative>) -> BTreeMap<String, Alternative> {
    let mut chosen: BTreeMap<String, Alternative> = BTreeMap::new();
    for alternative in all {
        let better = chosen.get(&alternative.name).is_none_or(|other| alternative.priority > other.priority);
        if better {
            chosen.insert(alternative.name.clone(), alternative);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_calls_are_read() {
        let script = "if x; then\n  update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n    --slave /usr/bin/nawk nawk /usr/bin/mawk\nfi\n\
                      update-alternatives --install $x y z 1\nupdate-alternatives --quiet --install /usr/bin/pager pager /bin/more 50 || true\n";
        let found = read(script);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].slaves, [("/usr/bin/nawk".to_owned(), "nawk".to_owned(), "/usr/bin/mawk".to_owned())]);
        let gawk = Alternative { path: "/usr/bin/gawk".into(), priority: 10, ..found[0].clone() };
        assert_eq!(choose(vec![found[0].clone(), gawk])["awk"].path, "/usr/bin/gawk");
    }
}
