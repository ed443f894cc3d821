//! Texts that mention an account: where, and how it is taken out of them.
//!
//! Invariant: a short name is only taken for one where it stands alone: `user_1` is not part of `user_12`. A long one, as
//! Clerk's are, is part of nothing by chance: of `signin_user_2g7np7Hrk0SN6kj5EDMLDaKNL0S_7` it is taken out.

/// From so many bytes on a name is what it is wherever it stands; Clerk's ids have 32, hashes 36.
const DISTINCTIVE_BYTES: usize = 20;

/// `text` with `to` where it mentions `from`; `None` where it does not.
#[must_use]
pub fn replace(text: &str, from: &str, to: &str) -> Option<String> {
    let mut replaced = String::new();
    let mut copied = 0;
    for (start, _) in text.match_indices(from).filter(|_| !from.is_empty()) {
        let end = start + from.len();
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let after = text.get(end..).and_then(|after| after.chars().next());
        let is_part = before.is_some_and(is_of_name) || after.is_some_and(is_of_name);
        if is_part && from.len() < DISTINCTIVE_BYTES {
            continue;
        }
        replaced.push_str(text.get(copied..start).unwrap_or_default());
        replaced.push_str(to);
        copied = end;
    }
    if copied == 0 {
        return None;
    }
    replaced.push_str(text.get(copied..).unwrap_or_default());
    Some(replaced)
}

/// The same in a line of JSON, in the values of strings alone: whatever an account is called, no key and no number is
/// taken for it. `within`, where it is given, has to be the whole of some string of the line.
#[must_use]
pub fn replace_in_json(line: &str, within: Option<&str>, from: &str, to: &str) -> Option<String> {
    // As they stand between quotes.
    let [from, to] = [from, to].map(escaped);
    if !line.contains(&from) || within.is_some_and(|within| !strings(line).any(|one| one.text == escaped(within))) {
        return None;
    }
    let mut replaced = String::with_capacity(line.len());
    let mut copied = 0;
    for value in strings(line).filter(|one| !one.is_key) {
        if let Some(text) = replace(value.text, &from, &to) {
            replaced.push_str(line.get(copied..value.start).unwrap_or_default());
            replaced.push_str(&text);
            copied = value.start + value.text.len();
        }
    }
    if copied == 0 {
        return None;
    }
    replaced.push_str(line.get(copied..).unwrap_or_default());
    Some(replaced)
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// A string of a line of JSON, as it is written.
struct Literal<'a> {
    text: &'a str,
    start: usize,
    is_key: bool,
}

fn strings(line: &str) -> impl Iterator<Item = Literal<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line.get(at..)?.find('"')? + 1;
        let mut is_escaped = false;
        let length = line.get(start..)?.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        at = start + length + 1;
        let is_key = line.get(at..)?.trim_start().starts_with(':');
        Some(Literal { text: line.get(start..start + length)?, start, is_key })
    })
}

fn is_of_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_where_it_stands_alone() {
        let replaced = |text| replace(text, "user_1", "erased_a");
        assert_eq!(replaced("user_1, user_12 and (user_1).").as_deref(), Some("erased_a, user_12 and (erased_a)."));
        for other in ["user_12", "xuser_1", "user_1b", "", "user_"] {
            assert_eq!(replaced(other), None, "{other}");
        }
        assert_eq!(replace("anything", "", "x"), None);
        let long = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S";
        assert_eq!(replace(&format!("a_{long}_7"), long, "e").as_deref(), Some("a_e_7"));
    }

    #[test]
    fn of_a_line_of_json_only_the_values_of_strings_are_touched() {
        let line = r#"{"user_1": 1, "7":"7", "a\"user_1":7, "said":"it was \"user_1\", 7 times", "list":["user_1","user_12"]}"#;
        assert_eq!(
            replace_in_json(line, None, "user_1", "e").as_deref(),
            Some(r#"{"user_1": 1, "7":"7", "a\"user_1":7, "said":"it was \"e\", 7 times", "list":["e","user_12"]}"#)
        );
        assert_eq!(replace_in_json(r#"{"n":7,"id":"7"}"#, None, "7", "e").as_deref(), Some(r#"{"n":7,"id":"e"}"#));
        let of = r#"{"tenant":"ins_1","id":"a\\b"}"#;
        assert_eq!(replace_in_json(of, Some("ins_1"), r"a\b", "e").as_deref(), Some(r#"{"tenant":"ins_1","id":"e"}"#));
        assert_eq!(replace_in_json(of, Some("ins_2"), r"a\b", "e"), None);
    }
}
