//! Rotation, truncation, restart and long lines, on real files.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use super::tail::{Line, Tail};
use super::*;

struct Bench {
    dir: tempfile::TempDir,
    tail: Tail,
}

impl Bench {
    fn new(text: &str, from_start: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("access.log"), text).unwrap();
        let tail = Tail::new(&dir.path().join("access.log"), dir.path(), from_start);
        Self { dir, tail }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until nothing comes, and stores the position.
    fn lines(&mut self) -> Vec<String> {
        let all = self.unkept();
        self.tail.keep().unwrap();
        all
    }

    fn unkept(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let mut quiet = 0;
        while quiet < 3 {
            let before = all.len();
            self.tail
                .read(&mut |_, line| {
                    all.push(match line {
                        Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                        Line::TooLong => "too long".to_owned(),
                    });
                })
                .unwrap();
            quiet = if all.len() == before { quiet + 1 } else { 0 };
        }
        all
    }

    fn restart(&mut self) {
        self.tail = Tail::new(&self.path("access.log"), self.dir.path(), false);
    }
}

#[test]
fn a_line_is_given_when_it_is_whole() {
    let mut bench = Bench::new("old\nhal", false);
    assert_eq!(bench.lines(), [""; 0]);
    bench.write("access.log", "f\n\n  \nnext\r\n");
    assert_eq!(bench.lines(), ["half", "next"]);
    assert_eq!(Bench::new("old\n", true).lines(), ["old"]);
}

#[test]
fn a_file_renamed_away_is_read_to_its_end_and_its_successor_from_its_start() {
    let mut bench = Bench::new("", true);
    bench.write("access.log", "1\n2\n");
    assert_eq!(bench.lines(), ["1", "2"]);
    std::fs::rename(bench.path("access.log"), bench.path("access.log.1")).unwrap();
    bench.write("access.log.1", "3\n");
    assert_eq!(bench.lines(), ["3"], "while there is no successor");
    bench.write("access.log.1", "4\nlast without end");
    bench.write("access.log", "5\n");
    assert_eq!(bench.lines(), ["4", "last without end", "5"]);
}

#[test]
fn a_file_cut_in_place_is_read_from_its_start() {
    let mut bench = Bench::new("1111\n2222\n", true);
    assert_eq!(bench.lines().len(), 2);
    File::create(bench.path("access.log")).unwrap().write_all(b"3\n").unwrap();
    assert_eq!(bench.lines(), ["3"]);
}

#[test]
fn after_a_restart_reading_goes_on_where_it_was_stored() {
    let mut bench = Bench::new("1\n", true);
    assert_eq!(bench.lines(), ["1"]);
    bench.write("access.log", "2\n");
    assert_eq!(bench.unkept(), ["2"]);
    bench.restart();
    assert_eq!(bench.lines(), ["2"], "read and not stored, so read again");
    bench.write("access.log", "3\n");
    bench.restart();
    assert_eq!(bench.lines(), ["3"]);
    // Rotated while nobody looked.
    bench.write("access.log", "4\n");
    std::fs::rename(bench.path("access.log"), bench.path("access.log.1")).unwrap();
    bench.write("access.log", "5\n");
    bench.restart();
    assert_eq!(bench.lines(), ["4", "5"]);
    // Cut and written again beyond the old place: the beginning is another.
    File::create(bench.path("access.log")).unwrap().write_all(b"6\n7\n8\n").unwrap();
    bench.restart();
    assert_eq!(bench.lines(), ["6", "7", "8"]);
}

#[test]
fn a_line_longer_than_a_chunk_is_passed_over_and_counted_once() {
    let mut bench = Bench::new("", true);
    bench.write("access.log", &format!("a\n{}\nb\n", "x".repeat(3 << 20)));
    assert_eq!(bench.lines(), ["a", "too long", "b"]);
}

#[test]
fn faults_of_the_configuration_name_their_keys() {
    let file = |path: &str, preset: &str, mapping: &str| Config {
        path: path.into(),
        preset: preset.into(),
        mapping: mapping.into(),
        ..Config::default()
    };
    let files = [
        file("", "okta", ""),
        file("/a", "oktaa", ""),
        file("/a", "", ""),
        file("/b", "", "mine"),
        file("/c", "okta", "mine"),
    ];
    let faults = validate(&files, &BTreeMap::new());
    for start in [
        "0.path: ",
        "1.preset: must be one of alb, ",
        "2.path: is followed",
        "2.preset: ",
        "3.mapping: ",
        "4.mapping: ",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start}: {faults:?}");
    }
    assert_eq!(validate(&[file("/a", "okta", "")], &BTreeMap::new()), [""; 0]);
}
