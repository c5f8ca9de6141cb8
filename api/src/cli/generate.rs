//! `efgs generate`: what a package holds besides the program, made from the command line's own
//! description.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// Write man pages and shell completions into a folder
#[derive(Debug, Args)]
#[command(hide = true, after_help = EXAMPLE)]
pub(super) struct GenerateArguments {
    /// Folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

const EXAMPLE: &str = "\
Example:
  efgs generate target/man";

/// Describes `command`.
pub(super) fn run(arguments: &GenerateArguments, command: Command) -> anyhow::Result<()> {
    let folder = &arguments.folder;
    write_all(folder, command).with_context(|| {
        format!(
            "cannot write into {}: choose another folder",
            folder.display()
        )
    })
}

fn write_all(folder: &Path, mut command: Command) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command.clone(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "efgs", folder)?;
    }
    Ok(())
}
