//! Splits the body of `POST /v1/attempts` into its items.
//!
//! Invariant: items come in the order they were sent, and their number is known to be bounded before any is looked at.
//! Inside a JSON array, one broken item breaks the text of all; in JSON Lines it breaks its own line only.

use axum::http::StatusCode;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Refused;

/// Items of one call: a few seconds of a busy app, and an answer of under a megabyte.
pub(super) const MAX_ITEMS: usize = 10_000;

/// An array's elements, the one object, or one object a line.
pub(super) fn split(body: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    let text = body.trim_ascii();
    let items = if text.first() == Some(&b'[') {
        elements(text)?
    } else if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        // One object, perhaps over several lines.
        vec![text]
    } else {
        lines(text)?
    };
    if items.is_empty() {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "bad_body", "there is no attempt in the body"));
    }
    Ok(items)
}

fn lines(text: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let items: Vec<_> = lines.by_ref().take(MAX_ITEMS).collect();
    if lines.next().is_some() { Err(too_many()) } else { Ok(items) }
}

fn elements(text: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    struct Elements;
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de [u8]>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element::<&RawValue>()? {
                // Eight million bytes can hold four million elements: none of those past the limit is kept.
                if items.len() == MAX_ITEMS {
                    return Err(A::Error::custom("too many elements"));
                }
                items.push(item.get().as_bytes());
            }
            Ok(items)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let items = json.deserialize_seq(Elements).and_then(|items| json.end().map(|()| items));
    items.map_err(|error| {
        // Elements are taken as they are, so the count is the only fault of theirs.
        if error.is_data() {
            return too_many();
        }
        let message = format!("the array is not JSON (line {}, column {})", error.line(), error.column());
        Refused::new(StatusCode::BAD_REQUEST, "bad_body", message)
    })
}

fn too_many() -> Refused {
    let message = format!("more than {MAX_ITEMS} attempts in one call");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_items", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<String> {
        let items = split(body.as_bytes()).unwrap();
        items.into_iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect()
    }

    fn refused(body: &str) -> (u16, &'static str) {
        let refused = split(body.as_bytes()).unwrap_err();
        (refused.status.as_u16(), refused.reason)
    }

    #[test]
    fn an_object_an_array_and_lines_are_the_same_items() {
        assert_eq!(texts(" {\n \"id\": \"a\"\n} "), ["{\n \"id\": \"a\"\n}"]);
        for two in ["[{\"id\":1}, {\"id\":2}]", "{\"id\":1}\n{\"id\":2}", "\n{\"id\":1}\r\n\r\n {\"id\":2} \n"] {
            assert_eq!(texts(two), ["{\"id\":1}", "{\"id\":2}"], "{two}");
        }
        // A broken line is an item of its own, to be refused by itself.
        assert_eq!(texts("{\"id\":1}\n{\"id\n{\"id\":3}").len(), 3);
    }

    #[test]
    fn what_holds_no_items_or_too_many_is_refused_whole() {
        for body in ["", " \n ", "[]", "[{\"id\":1},", "[{\"id\":1} {}]", "[]]"] {
            assert_eq!(refused(body), (400, "bad_body"), "{body:?}");
        }
        let (most, more) = (vec!["{}"; MAX_ITEMS], vec!["{}"; MAX_ITEMS + 1]);
        for glue in [",", "\n"] {
            let (open, close) = if glue == "," { ("[", "]") } else { ("", "") };
            assert_eq!(texts(&format!("{open}{}{close}", most.join(glue))).len(), MAX_ITEMS);
            assert_eq!(refused(&format!("{open}{}{close}", more.join(glue))), (413, "too_many_items"));
        }
    }
}
