//! The small language of scenarios on the command line: `kind:key=value,key=value`, and spans of time: `90s`, `10m`, `1h30m`.

use super::PlanError;

/// A kind and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec<'a> {
    pub(super) kind: &'a str,
    pub(super) settings: Vec<(&'a str, &'a str)>,
}

impl<'a> Spec<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, PlanError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let settings = rest
            .split(',')
            .filter(|setting| !setting.is_empty())
            .map(|setting| {
                setting
                    .split_once('=')
                    .ok_or_else(|| PlanError::new(format!("{kind}: `{setting}` is not of the form key=value")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { kind, settings })
    }
}

/// A value of a setting, or an error that names it.
pub(super) fn value<T: std::str::FromStr>(key: &str, text: &str) -> Result<T, PlanError> {
    text.parse().map_err(|_| PlanError::new(format!("{key}: `{text}` is not a number in range")))
}

/// Milliseconds of `90s`, `10m`, `6h`, `14d`, or several of them in a row.
///
/// # Errors
/// It is none of these, or longer than a thousand years.
pub fn span(text: &str) -> Result<i64, PlanError> {
    const MOST: i64 = 365_000 * 86_400_000;
    let wrong = || PlanError::new(format!("`{text}` is not a span of time such as 90s, 10m, 6h, 14d or 1h30m"));
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.chars().next() {
            Some('s') => 1000,
            Some('m') => 60_000,
            Some('h') => 3_600_000,
            Some('d') => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|millis| total.checked_add(millis)).ok_or_else(wrong)?;
        rest = tail.get(1..).unwrap_or_default();
    }
    if text.is_empty() || total > MOST { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, millis) in
            [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("14d", 1_209_600_000), ("0s", 0)]
        {
            assert_eq!(span(text).unwrap(), millis, "{text}");
        }
        for text in ["", "10", "m", "1.5h", "-1h", "1w", "1h ", "99999999999999999999s", "999999999999d", "1é"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn specs() {
        assert_eq!(Spec::parse("a").unwrap(), Spec { kind: "a", settings: vec![] });
        let settings = vec![("at", "1h"), ("hits", "2")];
        assert_eq!(Spec::parse("a:at=1h,hits=2").unwrap(), Spec { kind: "a", settings });
        assert!(Spec::parse("a:at").is_err());
    }
}
