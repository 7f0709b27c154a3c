//! What people type who know docker or compose, and what it is called here.

use clap::error::ErrorKind;

/// Commands of other tools.
const COMMANDS: &[(&str, &str)] = &[
    ("compose", "stead has no `compose` in front: stead up, stead down, stead logs"),
    ("prune", "`stead gc` deletes what no project uses"),
    ("system", "`stead gc` deletes what no project uses; `stead doctor` looks at this host"),
    ("destroy", "`stead down` ends everything; `stead down --volumes` deletes the volumes, too"),
    ("delete", "`stead down` ends everything; `stead down --volumes` deletes the volumes, too"),
    ("validate", "`stead check` checks the project file"),
    ("config", "`stead check` checks the project file; `stead plan` shows what `up` would do"),
    ("lint", "`stead check` checks the project file"),
    ("format", "`stead fmt` formats the project file"),
    ("ls", "`stead ps --projects` lists the containers of all projects"),
    ("list", "`stead ps` lists containers, `stead images` images"),
    ("network", "networks are nodes of stead.kdl: `stead plan` shows them; `stead inspect` shows addresses"),
    ("container", "stead has no `container` in front: stead ps, stead logs, stead rm"),
    ("version", "stead --version"),
    ("info", "`stead doctor` looks at this host"),
    ("docker", "stead has no `docker` in front: stead up, stead ps, stead exec"),
    ("docker-compose", "stead has no `docker-compose` in front: stead up, stead down, stead logs"),
    ("remove", "`stead rm` removes a container; `stead down` ends everything"),
    ("ssh", "`stead exec NAME sh` opens a shell in a container that runs; `stead shell NAME` in a new one"),
    ("bash", "`stead exec NAME bash` opens a shell in a container that runs; `stead shell NAME` in a new one"),
    ("rename", "a container has the name that stead.kdl gives it"),
    ("create", "`stead up` creates and starts what stead.kdl describes"),
    ("deploy", "`stead up` on the machine makes it as stead.kdl says; `stead bundle` packs all that it needs"),
    ("new", "`stead init` writes a first stead.kdl for what is in a directory"),
    ("image prune", "`stead gc` deletes what no project uses"),
    ("image ls", "`stead images` lists images"),
];

/// Options and arguments of other tools, with their command.
const OPTIONS: &[(&str, &[&str], &str)] = &[
    ("build", &["-t", "--tag"], "images are named in stead.kdl; `stead tag` gives one a further name"),
    (
        "build",
        &["--no-cache", "--pull"],
        "a step is built again when something that it uses changes; `stead update` moves stead.lock",
    ),
    ("build", &["--build-arg"], "stead --set NAME=VALUE sets a `param` of stead.kdl"),
    (
        "run",
        &["-d", "--detach", "-p", "--publish", "-v", "--volume", "--network", "--name", "--restart"],
        "write a `container` with `publish`, `mount`, `network` into stead.kdl; `stead up` starts it in the background",
    ),
    ("up", &["--build", "--wait"], "`stead up` always builds what has changed, and waits until all is up"),
    ("up", &["--force-recreate", "--no-deps"], "`stead restart NAME` starts one anew; `up` replaces what has changed"),
    ("up", &["--scale"], "stead scale NAME=3"),
    ("up", &["--remove-orphans"], "`stead up` always ends what is no longer in stead.kdl"),
    ("up", &["--pull"], "`stead update` moves what stead.lock pins"),
    ("up", &["--abort-on-container-exit", "--exit-code-from"], "`stead run NAME` runs one, and ends with its exit status"),
    ("up", &["-V", "--renew-anon-volumes"], "`stead down --volumes` deletes the volumes"),
    ("ps", &["--format", "--filter"], "`stead ps --json` is for programs; `--label` selects"),
    ("restart", &["-t", "--time", "--timeout"], "`stop-grace` in stead.kdl says how long a container may take to end"),
    ("inspect", &["-f", "--format"], "it prints JSON, of which `jq` takes parts"),
    ("login", &["-p"], "`--password-stdin` reads it, so that no list of processes shows it"),
    ("down", &["-t", "--timeout"], "`stop-grace` in stead.kdl says how long a container may take to end"),
    ("ps", &["-q", "--quiet"], "`stead ps --json` is for programs"),
    ("images", &["-q", "--quiet"], "`stead images --json` is for programs"),
    ("update", &["--dry-run"], "`stead plan` shows what `up` would do; stead.lock is in git, so `git diff` shows what moved"),
    ("down", &["--dry-run"], "`stead ps --all` lists what `down` would end"),
    ("cp", &["-L", "--follow-link"], "a link is copied as a link; name what it leads to"),
    ("cp", &["-a", "--archive"], "owners and modes are always kept"),
    ("top", &["-e", "-o", "-f", "aux", "-a"], "the columns are fixed; `stead exec NAME ps -ef` runs the container's own ps"),
    ("volume", &["-f", "--force"], "`stead volume prune --yes` does not ask; `stead down` removes what uses a volume"),
    ("status", &["--json"], "`stead plan --json` and `stead ps --json` are for programs"),
];

/// Options of Compose for the name of a project.
const PROJECT: [&str; 2] = ["-p", "--project-name"];

/// What to type instead, if the words are another tool's.
pub fn advice(kind: ErrorKind, words: &[String]) -> Option<&'static str> {
    let command = command_of(words)?;
    match kind {
        ErrorKind::InvalidSubcommand => {
            let typed = |known: &str| {
                let (first, second) = known.split_once(' ').map_or((known, None), |(first, second)| (first, Some(second)));
                let next = words.iter().skip_while(|word| *word != command).nth(1);
                first == command && second.is_none_or(|second| next.is_some_and(|next| next == second))
            };
            COMMANDS.iter().find(|(known, _)| typed(known)).map(|(_, advice)| *advice)
        }
        ErrorKind::UnknownArgument
            if words.iter().take_while(|word| *word != command).any(|word| PROJECT.contains(&word.as_str())) =>
        {
            Some("a project's name stands in its stead.kdl; -C DIRECTORY names its directory, `stead ps --projects` lists all")
        }
        ErrorKind::UnknownArgument => {
            // A short option may have its value attached.
            let is_short = |option: &str| option.len() == 2;
            let typed = |option: &&str| {
                words.iter().any(|word| word.split('=').next() == Some(option) || is_short(option) && word.starts_with(option))
            };
            let known = OPTIONS.iter().find(|(of, options, _)| of == command && options.iter().any(typed));
            let name = words.iter().skip_while(|word| *word != command).nth(1).filter(|word| !word.starts_with('-'));
            let part = (command == "up" && name.is_some())
                .then_some("`stead up` brings up the whole project; `stead start NAME` one container with what it depends on");
            known.map(|(_, _, advice)| *advice).or(part)
        }
        _ => None,
    }
}

/// The first word that is neither an option nor the value of one.
fn command_of(words: &[String]) -> Option<&String> {
    let mut value = false;
    words.iter().find(|word| {
        let of_option = std::mem::replace(
            &mut value,
            matches!(word.as_str(), "-C" | "-f" | "-p" | "--project-name" | "--file" | "--profile" | "--set"),
        );
        !of_option && !word.starts_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::advice;

    fn told(line: &str) -> Option<&'static str> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = command().try_get_matches_from(["stead".to_owned()].iter().chain(&words)).unwrap_err();
        advice(error.kind(), &words)
    }

    #[test]
    fn words_of_other_tools_are_known() {
        for (line, wanted) in [
            ("compose up", "stead up"),
            ("prune", "stead gc"),
            ("validate", "stead check"),
            ("build -t foo .", "stead tag"),
            ("run -d -p 80:80 nginx", "`publish`"),
            ("up --build", "always builds"),
            ("up --scale=app=3", "stead scale"),
            ("up app", "stead start NAME"),
            ("ps -q", "--json"),
            ("up --remove-orphans", "always ends"),
            ("docker compose up", "stead up"),
            ("volume prune -f", "--yes"),
            ("restart -t 3", "stop-grace"),
            ("-C /tmp ps -q", "--json"),
            ("run -p80:80 nginx", "`publish`"),
            ("image ls", "stead images"),
            ("image prune -f", "stead gc"),
            ("top -ef", "ps -ef"),
            ("cp -L web:/a .", "as a link"),
            ("-p shop ps", "-C DIRECTORY"),
            ("deploy", "stead up"),
        ] {
            assert!(told(line).is_some_and(|advice| advice.contains(wanted)), "{line}: {:?}", told(line));
        }
        assert_eq!(told("nonsense"), None);
        assert_eq!(told("up --nonsense"), None);
    }

    /// No entry hides a word that is one of ours.
    #[test]
    fn no_word_of_ours_is_called_foreign() {
        let ours = command();
        for (words, _) in super::COMMANDS {
            let known = words.split(' ').try_fold(&ours, |command, word| command.find_subcommand(word));
            assert!(known.is_none(), "{words}");
        }
    }
}
