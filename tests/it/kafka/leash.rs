//! How is a child process kept from outliving the tests, even tests that are killed?
//!
//! By a shell between the two. It reads a pipe whose other end only this process has, and kills its child when that
//! closes, which the kernel sees to whatever way this process ends. The shell is also the child's parent and waits for
//! it last, so while the leash is held the child's id names the child and nothing else: signals cannot go astray.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$0`: where the child's output goes; `$@`: the child. Standard input is moved because a shell gives what it runs in
/// the background an empty one.
const KEEPER: &str = r#"
exec 3<&0
"$@" </dev/null >>"$0" 2>&1 3<&- &
echo "$!"
read -r _ <&3
kill -9 "$!"
wait "$!"
"#;

/// A process that ends when this is dropped or when this process ends.
pub struct Leash {
    keeper: Child,
    child: u32,
}

impl Leash {
    /// Starts `command` in `folder`, its output appended to `log`.
    pub fn start<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>, folder: &Path, log: &Path) -> Self {
        // It must exist for the shell's redirection to be the only thing that can fail in the child.
        File::options().create(true).append(true).open(log).unwrap();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(log)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal goes to its whole process group: the keeper must live to do its work.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { keeper, child: line.trim().parse().unwrap() }
    }

    /// The child's process id.
    pub fn process(&self) -> u32 {
        self.child
    }

    /// Sends the child a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Whether the child still runs: it exists, and not only as a corpse that the keeper has not waited for.
    pub fn alive(&self) -> bool {
        runs(self.child)
    }
}

impl Drop for Leash {
    /// SIGKILL, and waits until the child is gone.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Nothing more can be done about a shell that cannot be waited for.
        let _ = self.keeper.wait();
    }
}

/// Whether a process of this id exists and is not a zombie.
pub fn runs(process: u32) -> bool {
    // The state follows the command's name, which is in brackets and may hold any character.
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}
