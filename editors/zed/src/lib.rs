//! The extension for Zed: it only says how the language server is started. Zed compiles it when it installs the extension.

use zed_extension_api::{self as zed, Command, LanguageServerId, Result, Worktree};

struct Stead;

impl zed::Extension for Stead {
    fn new() -> Self {
        Self
    }

    fn language_server_command(&mut self, _: &LanguageServerId, worktree: &Worktree) -> Result<Command> {
        let command = worktree.which("stead").ok_or("the program `stead` is not in the PATH")?;
        Ok(Command { command, args: vec!["lsp".into()], env: worktree.shell_env() })
    }
}

zed::register_extension!(Stead);
