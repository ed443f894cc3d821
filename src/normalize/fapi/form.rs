//! Reads two fields of a form as it goes by, and nothing else of it.
//!
//! The body of a sign-in holds the password. So this is no parser of forms: it looks at each byte once, in the buffer it
//! lies in, and copies only the values of `identifier` and `strategy`.
//!
//! Invariant: what is kept of a form is bounded and is the value of one of the two fields, whatever the form is; of a form
//! over [`MAX_FORM_BYTES`] nothing.

use super::hex;

/// Longer forms are none of a sign-in: an identifier, a password of at most 72 characters and a CAPTCHA token fit four times.
pub const MAX_FORM_BYTES: usize = 16 * 1024;
/// E-mail addresses end at 254 bytes.
const MAX_VALUE_BYTES: usize = 1024;

const FIELDS: [&[u8]; 2] = [b"identifier", b"strategy"];
/// Those of the longest name: more cannot be one of the two.
const MAX_NAME_BYTES: usize = 10;

/// Where in the form the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a name that may be one of the two.
    Name,
    /// In the value of one of the two.
    Kept(usize),
    /// In what is not kept, up to the next `&`.
    Other,
}

/// An escape that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Percent,
    High(u8),
}

/// The reader.
#[derive(Clone)]
pub struct Form {
    at: At,
    escape: Escape,
    seen: usize,
    /// The name, or the value that is kept, so far.
    part: Vec<u8>,
    /// The values of [`FIELDS`].
    values: [Option<Vec<u8>>; 2],
}

impl Default for Form {
    fn default() -> Self {
        Self { at: At::Name, escape: Escape::None, seen: 0, part: Vec::new(), values: [None, None] }
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Form(…)")
    }
}

impl Form {
    /// Reads on.
    pub fn read(&mut self, bytes: &[u8]) {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.seen > MAX_FORM_BYTES {
            (self.part, self.values) = (Vec::new(), [None, None]);
            return;
        }
        for &byte in bytes {
            self.step(byte);
        }
    }

    /// Nothing more comes: the identifier and the strategy, where the form had them.
    #[must_use]
    pub fn finish(mut self) -> (Option<String>, Option<String>) {
        if self.seen > MAX_FORM_BYTES {
            return (None, None);
        }
        self.unfinished_escape();
        self.end_of_pair();
        let [identifier, strategy] =
            self.values.map(|value| String::from_utf8(value?).ok().filter(|it| !it.is_empty()));
        (identifier, strategy)
    }

    fn step(&mut self, byte: u8) {
        match (byte, self.at) {
            (b'&', _) => {
                self.unfinished_escape();
                self.end_of_pair();
            }
            (_, At::Other) => {}
            (b'=', At::Name) => {
                self.unfinished_escape();
                self.at = FIELDS.iter().position(|name| *name == self.part).map_or(At::Other, At::Kept);
                self.part.clear();
            }
            (_, At::Name | At::Kept(_)) => self.unescape(byte),
        }
    }

    fn unescape(&mut self, byte: u8) {
        match (self.escape, byte) {
            (Escape::None, b'%') => self.escape = Escape::Percent,
            (Escape::None, b'+') => self.push(b' '),
            (Escape::None, _) => self.push(byte),
            (Escape::Percent, _) if hex(byte).is_some() => self.escape = Escape::High(byte),
            (Escape::High(high), _) if hex(byte).is_some() => {
                self.escape = Escape::None;
                self.push(hex(high).unwrap_or_default() << 4 | hex(byte).unwrap_or_default());
            }
            (Escape::Percent | Escape::High(_), _) => {
                self.unfinished_escape();
                self.unescape(byte);
            }
        }
    }

    /// What looked like an escape and is none stands for itself.
    fn unfinished_escape(&mut self) {
        let escape = std::mem::replace(&mut self.escape, Escape::None);
        if escape != Escape::None {
            self.push(b'%');
        }
        if let Escape::High(high) = escape {
            self.push(high);
        }
    }

    fn push(&mut self, byte: u8) {
        let most = match self.at {
            At::Name => MAX_NAME_BYTES,
            At::Kept(_) => MAX_VALUE_BYTES,
            At::Other => 0,
        };
        if self.part.len() < most {
            self.part.push(byte);
        } else {
            // Neither of the two names, or no identifier.
            self.part.clear();
            self.at = At::Other;
        }
    }

    fn end_of_pair(&mut self) {
        if let At::Kept(field) = self.at
            && let Some(value) = self.values.get_mut(field)
        {
            // Of a field that is there twice the first counts, as it does for Clerk.
            value.get_or_insert_with(|| std::mem::take(&mut self.part));
        }
        self.part.clear();
        self.at = At::Name;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(form: &[u8], chunk: usize) -> (Option<String>, Option<String>) {
        let mut reader = Form::default();
        form.chunks(chunk).for_each(|chunk| reader.read(chunk));
        reader.finish()
    }

    #[test]
    fn two_fields_are_read_however_the_form_is_cut_and_escaped() {
        let some = |text: &str| Some(text.to_owned());
        for chunk in [1, 2, 3, 1000] {
            for (form, identifier, strategy) in [
                ("identifier=alice%40example.com&password=hunter2&strategy=password", "alice@example.com", "password"),
                ("strategy=password&identifier=a+b%2Bc", "a b+c", "password"),
                ("%69dentifier=x&identifier=y&strategy=%70", "x", "p"),
                ("password=identifier%3Dz%26&identifier=%4&strategy=%zz%", "%4", "%zz%"),
                ("password==&identifier=a=b&strategy=s", "a=b", "s"),
            ] {
                assert_eq!(read(form.as_bytes(), chunk), (some(identifier), some(strategy)), "{form} by {chunk}");
            }
            for form in
                ["", "&&&", "identifier", "identifier=", "identifiers=a", "xidentifier=a", "password=identifier"]
            {
                assert_eq!(read(form.as_bytes(), chunk), (None, None), "{form} by {chunk}");
            }
        }
    }

    #[test]
    fn nothing_is_kept_of_what_is_too_long() {
        let long = format!("identifier={}&strategy=s", "a".repeat(MAX_VALUE_BYTES + 1));
        assert_eq!(read(long.as_bytes(), 100), (None, Some("s".to_owned())));
        let huge = format!("identifier=a&password={}", "p".repeat(MAX_FORM_BYTES));
        assert_eq!(read(huge.as_bytes(), 1000), (None, None));
    }

    #[test]
    fn the_password_is_in_the_readers_memory_at_no_moment() {
        let form = b"identifier=alice&password=hunter2hunter2&strategy=password";
        for end in 0..form.len() {
            let mut reader = Form::default();
            reader.read(&form[..end]);
            let kept = [&reader.part[..], reader.values[0].as_deref().unwrap_or_default()].concat();
            assert!(!kept.windows(3).any(|window| window == b"hun"), "after {end} bytes");
        }
    }

    proptest! {
        /// Against the form parser of the `url` project, on forms without broken escapes.
        #[test]
        fn it_agrees_with_a_parser_of_forms(pairs in prop::collection::vec(
            ("(identifier|strategy|password|[a-z%+= ]{0,12})", "\\PC{0,20}"), 0..6), chunk in 1_usize..40) {
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let first = |field: &str| {
                let mut found = form_urlencoded::parse(form.as_bytes()).filter(|(name, _)| name == field);
                found.next().map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
            };
            prop_assert_eq!(read(form.as_bytes(), chunk), (first("identifier"), first("strategy")));
        }
    }
}
