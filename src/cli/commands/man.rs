use super::super::{Context, command};
use crate::model::{Context as _, Result};
use crate::sys;
use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Writes the manual pages of all commands into a directory, for packages.
///
/// Example: stead man /usr/local/share/man/man1
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The directory; it is made if it does not exist.
    directory: PathBuf,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
    let pages = pages().context(|| "cannot write manual pages".into())?;
    let count = pages.len();
    for (name, page) in pages {
        let path = directory.join(name);
        sys::write_atomic(&path, &page, 0o644).context(|| format!("cannot write {}", path.display()))?;
    }
    context.ui.say(format!("{count} pages in {}", directory.display()));
    Ok(0)
}

/// The names and texts of all pages: of the program, of each command, and of each command below one.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = command();
    whole.build();
    let (mut found, mut left) = (Vec::new(), vec![whole]);
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|one| !one.is_hide_set()).cloned());
        found.push(page(command)?);
    }
    found.sort();
    Ok(found)
}

fn page(command: Command) -> io::Result<(String, Vec<u8>)> {
    let man = Man::new(command).source(concat!("stead ", env!("CARGO_PKG_VERSION"))).manual("stead");
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok((man.get_filename(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_manual_page_of_every_command_but_hidden_ones() {
        let pages = pages().unwrap();
        let find =
            |name: &str| pages.iter().find(|(known, _)| known == name).map(|(_, text)| String::from_utf8(text.clone()).unwrap());
        let up = find("stead-up.1").unwrap();
        assert!(
            up.lines().any(|line| line.starts_with(".TH ")) && up.contains("Makes this machine match") && up.contains("profile"),
            "{up}"
        );
        assert!(find("stead.1").unwrap().contains("stead\\-up(1)"));
        assert!(find("stead-image-history.1").is_some() && find("stead-man.1").is_none());
        let names: std::collections::BTreeSet<_> = pages.iter().map(|(name, _)| name).collect();
        assert!(names.len() == pages.len() && names.iter().all(|name| !name.contains('/')), "{names:?}");
    }
}
