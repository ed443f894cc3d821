//! `authspike forget`: has a running instance forget an account, and says what that took.
//!
//! Invariant: it is done when the command says so; what takes longer than it waits is done all the same, and the request's
//! id finds it in the audit.
//!
//! Not here: forgetting where no instance runs. The detector's state is a function of the log, so whoever reads the log has
//! to do it.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{Exit, asking};
use crate::clock::Stopwatch;
use crate::config::{Environment, secrets};
use crate::erasure::Done;

/// A snapshot of a large state, and a log of gigabytes to look through.
const PATIENCE: Duration = Duration::from_mins(3);

const EXAMPLES: &str = "\
Examples:
  AUTHSPIKE_ADMIN_TOKEN=… authspike forget user_2g7np7Hrk0SN6kj5EDMLDaKNL0S
  authspike forget user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --tenant ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S
  authspike forget idh_0123456789abcdef0123456789abcdef

The state, the log, the stored findings and findings.jsonl say `erased_…` where they named the account; counts and \
severities stay. Open findings get a further revision without the name. What was delivered cannot be taken back. \
Identifiers that were seen with a user id are forgotten with it. audit.jsonl in the data directory tells of it, and names \
nobody.

The running instance must have an admin token; it is the first of AUTHSPIKE_ADMIN_TOKEN (or of the file that \
AUTHSPIKE_ADMIN_TOKEN_FILE names). Exit code 0 if it is done, also where nothing was kept of the account; 1 if not.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The user id (user_…), or an identifier as findings show it (idh_…)
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// Only at this Clerk instance [default: wherever it is known; on Kafka it must be given]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// The admin listener of the running instance
    #[arg(long, value_name = "http://HOST:PORT", default_value = "http://127.0.0.1:9090")]
    admin: String,
}

#[derive(Deserialize)]
struct Answer {
    request: String,
    done: Option<Done>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut url = asking::listener(&args.admin)?;
    let is_base = "must be a URL: http://127.0.0.1:9090";
    url.path_segments_mut().map_err(|()| anyhow::anyhow!(is_base))?.extend(["v1", "accounts", &args.account]);
    url.query_pairs_mut().append_pair("by", "cli");
    if let Some(tenant) = &args.tenant {
        url.query_pairs_mut().append_pair("tenant", tenant);
    }
    let token = secrets::for_asking(&Environment::of_process())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout().lock();
    let watch = Stopwatch::start();
    let mut answer = runtime.block_on(asking::ask(Method::DELETE, url, token.as_ref()))?;
    loop {
        let Answer { request, done } =
            serde_json::from_slice(&answer.1).context("the answer is not one of an authspike like this")?;
        if let (StatusCode::OK, Some(done)) = (answer.0, done) {
            tell(&mut out, &done)?;
            return Ok(Exit::Done);
        }
        if watch.elapsed() > PATIENCE {
            writeln!(out, "not done yet, and it will be: look for {request} in audit.jsonl")?;
            return Ok(Exit::Failed);
        }
        let mut url = asking::listener(&args.admin)?;
        url.path_segments_mut().map_err(|()| anyhow::anyhow!(is_base))?.extend(["v1", "erasures", &request]);
        answer = runtime.block_on(asking::ask(Method::GET, url, token.as_ref()))?;
    }
}

fn tell(out: &mut impl io::Write, done: &Done) -> io::Result<()> {
    let Done { request, log_records, finding_revisions, file_lines, identifiers, .. } = done;
    if log_records + finding_revisions + file_lines == 0 {
        writeln!(out, "forgotten: nothing was kept of it but perhaps counts")?;
    } else {
        writeln!(out, "forgotten: it was named in")?;
        writeln!(out, "  {log_records:>8} records of the log")?;
        writeln!(out, "  {finding_revisions:>8} revisions of findings in the outbox")?;
        writeln!(out, "  {file_lines:>8} lines of files of findings")?;
    }
    if *identifiers > 0 {
        writeln!(out, "  {identifiers:>8} identifiers were seen with it, and are being forgotten too")?;
    }
    writeln!(out, "audit.jsonl: number {}, request {request}", done.number)
}
