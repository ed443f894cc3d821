//! `authspike explain`: why an entity fired or did not, from a running instance.
//!
//! Not here: the request (`asking`). What a person reads is in `text`, which a replay uses too.

use std::io::{self, Write as _};
use std::str::FromStr as _;

use anyhow::Context as _;
use reqwest::{Method, Url};

use super::{Exit, asking};
use crate::config::{Environment, Faults, secrets};
use crate::detect::{Subject, UnknownSubject};
use crate::pipeline::Answer;

pub(super) mod text;

const EXAMPLES: &str = "\
Examples:
  authspike explain 203.0.113.7
  authspike explain 2001:db8:1::/48 --tenant ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S
  AUTHSPIKE_ADMIN_TOKEN=… authspike explain user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --json | jq '.explanations[].verdict'

ENTITY is an address, a network (/24, /48), an account (user_…, or idh_… as findings show an identifier) or an instance \
(ins_…). An address is explained together with its network. There is one block for every window: the verdict, the counts, \
what is normal and how well that is known, and what it would take; it speaks of the event time that it names.

The token is the first of AUTHSPIKE_ADMIN_TOKEN (or of the file that AUTHSPIKE_ADMIN_TOKEN_FILE names), where the instance \
has one. Exit code 0 whatever the verdict, also where nothing is known; 1 if there is no answer; 64 if it is no entity.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whom to ask about
    #[arg(value_name = "ENTITY", value_parser = entity)]
    entity: Subject,
    /// Only at this Clerk instance [default: wherever it is known]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// The admin listener of the running instance
    #[arg(long, value_name = "http://HOST:PORT", default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// Print the answer as it comes: one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn entity(text: &str) -> Result<Subject, UnknownSubject> {
    Subject::from_str(text)
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let url = url(&args.admin, &args.entity, args.tenant.as_deref())?;
    let token = secrets::for_asking(&Environment::of_process())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (_, body) = runtime.block_on(asking::ask(Method::GET, url, token.as_ref()))?;
    let mut out = io::stdout().lock();
    if args.json {
        out.write_all(&body)?;
        out.write_all(b"\n")?;
    } else {
        let answer: Answer =
            serde_json::from_slice(&body).context("the answer is not one of an authspike like this")?;
        text::write(&mut out, &answer)?;
    }
    Ok(Exit::Done)
}

fn url(admin: &str, entity: &Subject, tenant: Option<&str>) -> Result<Url, Faults> {
    let mut url = asking::listener(admin)?;
    url.set_path("/v1/explain");
    url.query_pairs_mut().append_pair("entity", &entity.to_string());
    if let Some(tenant) = tenant {
        url.query_pairs_mut().append_pair("tenant", tenant);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_escaped_and_goes_only_to_a_plain_listener() {
        let subject = entity("2001:db8:1::/48").unwrap();
        let url_of = |admin: &str| url(admin, &subject, Some("ins_1&entity=x")).map_err(|fault| fault.to_string());
        assert_eq!(
            url_of("http://127.0.0.1:9090").unwrap().as_str(),
            "http://127.0.0.1:9090/v1/explain?entity=2001%3Adb8%3A1%3A%3A%2F48&tenant=ins_1%26entity%3Dx"
        );
        for (admin, fault) in [
            ("127.0.0.1:9090", "must be a URL"),
            ("https://host:9090", "no TLS"),
            ("http://host:9090/v1", "only scheme, host and port"),
            ("http://me:secret@host:9090", "only scheme, host and port"),
        ] {
            let told = url_of(admin).unwrap_err();
            assert!(told.starts_with("--admin: ") && told.contains(fault) && !told.contains("secret"), "{told}");
        }
    }
}
