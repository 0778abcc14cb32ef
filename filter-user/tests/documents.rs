//! The documents: pages that are generated are up to date, every command in a code block parses, every
//! configuration in one is valid, and every link leads somewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _, Parser as _};
use filter_user::cli::Cli;
use filter_user::config::Config;

#[path = "common/pages.rs"]
mod pages;

use self::pages::{hold, root};

/// Every Markdown file that a reader may open.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in [root(), root().join("docs")] {
        let entries = fs::read_dir(&directory).expect("the directory of documents");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_page_of_settings_is_up_to_date() {
    hold("docs/configuration.md", "documents", &Config::documentation());
}

#[test]
fn the_page_of_commands_is_up_to_date() {
    hold("docs/commands.md", "documents", &commands());
}

const COMMANDS: &str = "\
# Commands

<!-- Written from filter-user/src/cli.rs and cli/ by a test. UPDATE_DOCS=1 cargo test -p filter-user --test documents -->

Every command except `run` takes `--json`. It then prints one JSON document, which is `{\"error\": ...}` if the
command fails; `test-log` prints one document per line. Times in JSON are UTC, times in text are local.

The exit status is 0 on success, 1 on failure with the reason on standard error, and 2 for wrong usage. `doctor`
exits with 1 if it finds a problem, `audit` as its findings are. Every command except `test-log` and `check-config` needs root; those that
change nothing may also be used by members of the group `ringfence`. If the configuration is invalid, the commands that ask a
running daemon, and `detach`, print a warning and still work.

Options for every command. The environment variable `RINGFENCE_SOCKET` stands for `--socket`.

| option | meaning |
|---|---|
";

fn commands() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut text = COMMANDS.to_owned();
    for option in cli.get_arguments().filter(|option| option.is_global_set()) {
        text.push_str(&option_row(option));
    }
    for command in cli.get_subcommands() {
        describe(command, "ringfence", &mut text);
    }
    text
}

fn describe(command: &Command, parent: &str, text: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let long = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    let long = long.unwrap_or_default();
    // clap has the first sentence without its full stop.
    let about = match long.split_once("\n\n") {
        Some((first, rest)) => format!("{first}.\n\n{rest}"),
        None => format!("{long}."),
    };
    let inner: Vec<&Command> =
        command.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    if inner.is_empty() || !command.is_subcommand_required_set() {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace("\n       ", "\n");
        let _infallible = write!(text, "\n## {name}\n\n{about}\n\n```text\n{usage}\n```\n");
        let arguments: Vec<_> = command
            .get_arguments()
            .filter(|argument| {
                !argument.is_global_set()
                    && !["help", "version"].contains(&argument.get_id().as_str())
            })
            .collect();
        if !arguments.is_empty() {
            text.push_str("\n| argument | meaning |\n|---|---|\n");
            for argument in arguments {
                text.push_str(&option_row(argument));
            }
        }
    }
    for command in inner {
        describe(command, &name, text);
    }
}

fn option_row(argument: &clap::Arg) -> String {
    let shown = argument.to_string();
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let default = if defaults.is_empty() {
        String::new()
    } else {
        format!(" [default: {}]", defaults.join(", "))
    };
    let help = help.replace('|', "\\|");
    format!("| {short}`{shown}` | {help}{default} |\n")
}

/// A fenced code block.
struct Block {
    language: String,
    /// The line of its first line in the document.
    line: usize,
    text: String,
}

fn blocks(document: &Path) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in read(document).lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                let language = language.to_owned();
                open = Some(Block { language, line: index + 2, text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                let indented =
                    line.starts_with("    ") && !line.trim_start().starts_with(['-', '*', '|']);
                assert!(
                    !(indented && line.trim_start().starts_with("ringfence ")),
                    "{}:{}: put commands into a block marked sh",
                    document.display(),
                    index + 1
                );
            }
        }
    }
    assert!(open.is_none(), "{}: a code block has no end", document.display());
    blocks
}

/// The words of a command line, as a shell would split it, up to a comment, a pipe or the next command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut begun) = (None, false);
    for letter in line.chars() {
        match quote {
            Some(mark) if letter == mark => quote = None,
            None if letter == '\'' || letter == '"' => (quote, begun) = (Some(letter), true),
            None if letter == '#' && word.is_empty() => break,
            None if letter.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            Some(_) | None => word.push(letter),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The commands of `ringfence` in a line of a shell.
fn ringfence_commands(line: &str) -> Vec<Vec<String>> {
    let all = words(line.trim_start().strip_prefix("$ ").unwrap_or(line));
    let parts = all.split(|word| ["|", "&&", "||", ";"].contains(&&**word));
    let commands = parts.filter_map(|part| {
        let place = part.iter().position(|word| word == "ringfence")?;
        // Before it there is nothing, or a command that runs it.
        let runs_it = place == 0 || ["sudo", "nsenter"].contains(&&*part[0]);
        // Behind a `>` is the file that takes its output.
        let end = part.iter().position(|word| word == ">").unwrap_or(part.len());
        runs_it.then(|| part[place..end].to_vec())
    });
    commands.collect()
}

#[test]
fn every_command_in_the_documents_parses() {
    let mut commands = BTreeSet::new();
    for document in documents() {
        for block in blocks(&document) {
            if !["sh", "console"].contains(&&*block.language) {
                let first =
                    |line: &str| !line.starts_with("ringfence ") || block.language == "text";
                assert!(
                    block.text.lines().all(first),
                    "{}:{}: mark this block as sh",
                    document.display(),
                    block.line
                );
                continue;
            }
            for (index, line) in block.text.lines().enumerate() {
                for words in ringfence_commands(line) {
                    let parsed = Cli::try_parse_from(&words);
                    let place = format!("{}:{}", document.display(), block.line + index);
                    let parsed = parsed.map_err(|error| format!("{place}: {line}\n{error}"));
                    assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
                    commands.insert(words.get(1).cloned().unwrap_or_default());
                }
            }
        }
    }
    // The documents show every command.
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(commands.contains(name), "no block has an example of `ringfence {name}`");
    }
}

#[test]
fn every_command_in_a_sentence_is_one() {
    let known: BTreeSet<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for document in documents() {
        let text = read(&document);
        for (index, line) in text.lines().enumerate() {
            for after in line.split("`ringfence ").skip(1) {
                let word: String =
                    after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                let fine = word.is_empty() || word.starts_with('-') || known.contains(&word);
                assert!(fine, "{}:{}: ringfence {word}", document.display(), index + 1);
            }
        }
    }
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let mut seen = 0;
    for document in documents() {
        for block in blocks(&document).iter().filter(|block| block.language == "yaml") {
            let parsed = Config::parse(&document, block.text.as_bytes());
            assert!(
                parsed.is_ok(),
                "{}:{}:\n{}",
                document.display(),
                block.line,
                parsed.unwrap_err()
            );
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen}");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().to_lowercase();
    let kept = letters.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &Path) -> BTreeSet<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let directory = document.parent().expect("a document has a directory");
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { document.clone() } else { directory.join(file) };
            assert!(path.exists(), "{}: there is no {target}", document.display());
            let known = fragment.is_empty() || anchors(&path).contains(fragment);
            assert!(known, "{}: {target} has no such heading", document.display());
        }
    }
}
