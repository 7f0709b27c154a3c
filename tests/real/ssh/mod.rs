//! Repositories that are fetched over ssh. The client and the server are real, and the server runs git's own program.

use crate::world::{World, is_root, skip};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An ssh server that runs until this value is dropped.
struct Server {
    process: Child,
    port: u16,
    keys: PathBuf,
}

impl Server {
    /// Serves a directory to clients that have a key made here.
    fn start(folder: &Path, keys: &Path, variables: &str) -> Self {
        fs::create_dir_all(keys).unwrap();
        for name in ["host", "mine", "other"] {
            if !keys.join(name).exists() {
                let made =
                    Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", name]).current_dir(keys).status();
                assert!(made.unwrap().success());
            }
        }
        let mut server = Command::new("/usr/bin/python3");
        server.args(["-W", "ignore"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/ssh/server.py"));
        server.arg(keys.join("host")).arg(keys.join("mine.pub")).arg(folder).arg(variables);
        let mut process = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server says its port");
        let host = fs::read_to_string(keys.join("host.pub")).unwrap();
        fs::write(keys.join("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        fs::write(keys.join("nobody"), "").unwrap();
        Self { process, port, keys: keys.to_owned() }
    }

    fn address(&self, path: &Path) -> String {
        format!("ssh://git@127.0.0.1:{}{}", self.port, path.display())
    }

    /// The value of `GIT_SSH_COMMAND`.
    fn client(&self, key: &str, known: &str) -> String {
        let file = |name: &str| self.keys.join(name).display().to_string();
        format!("ssh -F none -i '{}' -o IdentitiesOnly=yes -o UserKnownHostsFile='{}'", file(key), file(known))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sh(folder: &Path, script: &str) -> String {
    let ran = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[test]
fn repositories_behind_ssh_are_fetched_with_the_users_keys() {
    if !is_root() {
        return;
    }
    if !Path::new("/usr/lib/python3/dist-packages/asyncssh").exists() && skip("Debian's python3-asyncssh is not there") {
        return;
    }
    let world = World::new("ssh", "");
    let served = world.folder.join("it's served!");
    fs::create_dir_all(&served).unwrap();
    let commit = sh(
        &served,
        "export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=user.email GIT_CONFIG_VALUE_0=a@b GIT_CONFIG_KEY_1=user.name GIT_CONFIG_VALUE_1=a \
                GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always
         git init -q -b main inner; echo inner > inner/file; git -C inner add -A; git -C inner commit -qm 1
         git init -q -b main src; echo one > src/file; cd src; git submodule --quiet add ../inner inner; git add -A; git commit -qm 1
         git tag -am 1 v1; echo two > file; git commit -qam 2
         git clone -q --bare . ../app.git; cd ..; rm -rf src; git --git-dir=app.git rev-parse v1^{commit}",
    );
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    for variables in ["env", "none"] {
        let server = Server::start(&served, &world.folder.join("keys"), variables);
        let address = server.address(&served.join("app.git"));
        let build = |key: &str, known: &str, more: &[&str]| {
            let mut command = world.command(&[&["build"], more].concat());
            let ran = command.env("GIT_SSH_COMMAND", server.client(key, known)).output().unwrap();
            (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
        };
        // One image uses a commit that is not the newest; the other uses the short name of a tag, with the commit's first digits.
        let steps = format!(
            "image \"at-{variables}\" {{ from \"base\"; add git=\"{address}\" commit=\"{commit}\" to=\"/src\"; label run=\"{}\"; }}\n\
             image \"tag-{variables}\" {{ dockerfile \"{variables}\" }}\n\
             container \"c\" {{ image \"at-{variables}\" }}\n",
            server.port
        );
        world.write("stead.kdl", &format!("{text}{steps}"));
        let ask = format!("{address}?tag=v1&submodules=false&checksum={}", &commit[..7]);
        // A quote in the path would begin a quoted part, and a space another word.
        let word = |text: &str| text.replace('\'', r"\\'");
        world.write(variables, &format!("FROM base\nADD --keep-git-dir [\"{}\", \"/src/\"]\n", word(&ask)));
        let images = [&*format!("at-{variables}"), &*format!("tag-{variables}")];

        let (done, said) = build("mine", "nobody", &images);
        assert!(!done && said.contains("Host key verification failed") && said.contains("type `ssh git@127.0.0.1`"), "{said}");
        let (done, said) = build("other", "known", &images);
        assert!(!done && said.contains("Permission denied") && said.contains("ssh-add"), "{said}");

        let plan = String::from_utf8(
            world.command(&["plan"]).env("GIT_SSH_COMMAND", server.client("mine", "known")).output().unwrap().stdout,
        );
        assert!(plan.as_ref().unwrap().contains("is fetched with your ssh keys: ssh://git@127.0.0.1"), "{plan:?}");
        let (done, said) = build("mine", "known", &images);
        assert!(done, "{said}");
        let see = |image: &str, script: &str| world.ok(&["run", "-T", image, "sh", "-c", script]).trim().to_owned();
        assert_eq!(see(images[0], "cat /src/file /src/inner/file"), "one\ninner");
        assert_eq!(see(images[1], "cat /src/file /src/.git/HEAD; ls -A /src/inner"), format!("one\n{commit}"));

        // Errors: a missing path, a path that is not a repository, and a reference to another commit.
        for (path, why) in [("none.git", "does not appear to be a git repository"), ("app.git/objects", "not appear to be a git")]
        {
            world
                .write(variables, &format!("FROM base\nADD [\"{}#v1\", \"/src/\"]\n", word(&server.address(&served.join(path)))));
            let (done, said) = build("mine", "known", &images[1..]);
            assert!(!done && said.contains(why), "{said}");
        }
        world.write(
            variables,
            &format!("FROM base\nADD [\"{}?branch=main&checksum={}\", \"/src/\"]\n", word(&address), &commit[..7]),
        );
        let (done, said) = build("mine", "known", &images[1..]);
        assert!(!done && said.contains("does not begin with"), "{said}");
    }
}
