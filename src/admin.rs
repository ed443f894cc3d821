//! What the operator sees, on a listener of its own.
//!
//! - `GET /metrics`: the Prometheus page.
//! - `GET /livez`: 200 as long as the process answers.
//! - `GET /readyz`: 200 or 503, with the reasons; what cannot be detected with the sources configured is told as a note, and
//!   of up to 20 instances, those first of which something stopped, what comes in and which rules are therefore blind.
//! - `GET /v1/signals`: the same of all instances that are judged here.
//! - `GET /v1/findings`: the findings that are open now, as JSON.
//! - `GET /v1/shadow/findings`: what the shadow thresholds found: their name, the findings open now, and the last few that
//!   were closed; a name of `null` says that none are tried out.
//! - `GET /v1/explain?entity=203.0.113.7[&tenant=ins_…]`: why it fired or why not, window by window; 400 for what is no
//!   entity, 503 if the detector does not come to it.
//!
//! - `DELETE /v1/accounts/{account}[?tenant=ins_…]`: forgets a user id or an identifier; 200 with what was done, or 202 with
//!   the request's id if that takes longer. `GET /v1/erasures/{request}` then asks for it, with the same two answers.
//!
//! Invariant: nothing else here changes anything. `/metrics` and `/v1` need the token where one is set, and one must be set
//! to listen beyond loopback, since findings name accounts and addresses; and to forget an account, wherever it listens,
//! since that takes a name out of the evidence.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::erasure::{Done, Requests, Unasked};
use crate::finding::Finding;
use crate::metrics::Metrics;
use crate::pipeline::{Board, Instance, Questions, ShadowBoard, SignalBoard, Unanswered};
use crate::secret::Secret;

/// Instances that `/readyz` names: what a person reads at night.
const MAX_INSTANCES_SHOWN: usize = 20;

/// A month: of an instance that is quiet for longer nobody can say whether it stopped.
const MAX_SILENT_MINUTES: u32 = 43_200;

/// What the user can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// How long no success or no failure of an instance may arrive before that has stopped; of code requests and lock-outs,
    /// which are rare, thirty times as long.
    pub silent_minutes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)), silent_minutes: 1440 }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let is_sane = (5..=MAX_SILENT_MINUTES).contains(&self.silent_minutes);
        let fault = || format!("silent_minutes: must be from 5 to {MAX_SILENT_MINUTES}");
        (!is_sane).then(fault).into_iter().collect()
    }

    /// Why `tokens` do not do for this address, if they do not.
    #[must_use]
    pub fn exposure(&self, tokens: &[Secret]) -> Option<String> {
        (!self.listen.ip().is_loopback() && tokens.is_empty()).then(|| {
            format!("admin.listen: {} is not loopback; set AUTHSPIKE_ADMIN_TOKEN to listen there", self.listen)
        })
    }
}

/// What the admin listener shows.
#[derive(Clone)]
pub struct Parts {
    /// Tokens that open `/metrics` and `/v1`; none: open to all (on loopback).
    pub tokens: Arc<[Secret]>,
    /// Every metric.
    pub metrics: Metrics,
    /// Why this process should not be sent anything just now; nothing: it is ready.
    pub faults: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Open findings.
    pub board: Board,
    /// Findings of the shadow detector.
    pub shadow: ShadowBoard,
    /// What comes in of each instance.
    pub signals: SignalBoard,
    /// For questions about single entities.
    pub questions: Questions,
    /// For accounts to be forgotten.
    pub erasures: Requests,
    /// What the configured sources cannot show.
    pub notes: Arc<[String]>,
    /// What went by unseen so far.
    pub gaps: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// The routes.
pub fn router(parts: Parts) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/findings", get(findings))
        .route("/v1/shadow/findings", get(shadow_findings))
        .route("/v1/signals", get(signals))
        .route("/v1/explain", get(explain))
        .route("/v1/accounts/{account}", delete(forget))
        .route("/v1/erasures/{request}", get(erasure))
        .layer(middleware::from_fn_with_state(parts.clone(), authorize))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(parts)
}

async fn authorize(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    // Every token is compared, so that the time tells nothing about which one came close.
    let known = parts
        .tokens
        .iter()
        .fold(subtle::Choice::from(0), |known, token| known | token.expose().as_bytes().ct_eq(given));
    if parts.tokens.is_empty() || bool::from(known) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a bearer token is needed\n").into_response()
    }
}

async fn metrics(State(parts): State<Parts>) -> Response {
    parts.signals.publish(&parts.metrics.detect.signals);
    match parts.metrics.render() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    notes: Vec<String>,
    instances: Vec<Instance>,
    /// Of which as many are judged here.
    instances_total: usize,
}

async fn readiness(State(parts): State<Parts>) -> Response {
    let reasons = (*parts.faults)();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let notes = parts.notes.iter().cloned().chain((*parts.gaps)()).collect();
    let mut instances = parts.signals.instances();
    let instances_total = instances.len();
    instances.truncate(MAX_INSTANCES_SHOWN);
    let body = Readiness { ready: reasons.is_empty(), reasons, notes, instances, instances_total };
    (status, Json(&body)).into_response()
}

async fn signals(State(parts): State<Parts>) -> Response {
    Json(parts.signals.instances()).into_response()
}

async fn findings(State(parts): State<Parts>) -> Response {
    let open = worst_first(parts.board.iter().map(|entry| Arc::clone(entry.value())).collect());
    Json(as_refs(&open)).into_response()
}

#[derive(Serialize)]
struct ShadowFindings<'a> {
    name: Option<String>,
    open: Vec<&'a Finding>,
    recently_closed: Vec<&'a Finding>,
}

async fn shadow_findings(State(parts): State<Parts>) -> Response {
    let (open, closed) = (worst_first(parts.shadow.open()), parts.shadow.recently_closed());
    let (open, recently_closed) = (as_refs(&open), as_refs(&closed));
    Json(ShadowFindings { name: parts.shadow.name(), open, recently_closed }).into_response()
}

/// The values of `names` in the query, each at most once.
fn parameters<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], String> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let known = names.iter().zip(&mut values).find(|(known, _)| ***known == *name);
        let (_, place) = known.ok_or_else(|| format!("{name:?} is no parameter: {} are", names.join(" and ")))?;
        if place.replace(value.into_owned()).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(values)
}

#[derive(Serialize)]
struct Erasure<'a> {
    request: &'a str,
    /// `None` as long as it is not done.
    done: Option<&'a Done>,
}

async fn forget(State(parts): State<Parts>, Path(account): Path<String>, uri: Uri) -> Response {
    if parts.tokens.is_empty() {
        let why = "set AUTHSPIKE_ADMIN_TOKEN: nobody may have an account forgotten without one\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let [tenant, asked_by] = match parameters(&uri, ["tenant", "by"]) {
        Ok(values) => values,
        Err(why) => return bad_request(&why),
    };
    // A closed list: it is a label.
    let asked_by = if asked_by.as_deref() == Some("cli") { "cli" } else { "api" };
    match parts.erasures.forget(&account, tenant.as_deref(), asked_by).await {
        Ok(request) => outcome(&parts.erasures, &request).await,
        Err(fault @ (Unasked::NoAccount | Unasked::NoTenant)) => bad_request(&fault.to_string()),
        Err(fault @ Unasked::Log(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{fault}\n")).into_response()
        }
    }
}

async fn erasure(State(parts): State<Parts>, Path(request): Path<String>) -> Response {
    outcome(&parts.erasures, &request).await
}

async fn outcome(erasures: &Requests, request: &str) -> Response {
    let done = erasures.outcome(request).await;
    let status = if done.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(&Erasure { request, done: done.as_ref() })).into_response()
}

async fn explain(State(parts): State<Parts>, uri: Uri) -> Response {
    let [entity, tenant] = match parameters(&uri, ["entity", "tenant"]) {
        Ok(values) => values,
        Err(why) => return bad_request(&why),
    };
    let Some(entity) = entity else { return bad_request("entity: is missing") };
    match parts.questions.ask(&entity, tenant.as_deref()).await {
        Ok(answer) => Json(&answer).into_response(),
        Err(Unanswered::Unknown(fault)) => bad_request(&format!("entity: {fault}")),
        Err(fault @ (Unanswered::Busy | Unanswered::Late | Unanswered::Stopped)) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{fault}\n")).into_response()
        }
    }
}

fn bad_request(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

fn worst_first(mut open: Vec<Arc<Finding>>) -> Vec<Arc<Finding>> {
    open.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.at.cmp(&a.at)).then(a.finding_id.cmp(&b.finding_id)));
    open
}

fn as_refs(findings: &[Arc<Finding>]) -> Vec<&Finding> {
    findings.iter().map(|finding| &**finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    async fn get(tokens: &[&str], fault: Option<&str>, path: &str, bearer: Option<&str>) -> (StatusCode, String) {
        let faults: Vec<String> = fault.map(str::to_owned).into_iter().collect();
        let parts = Parts {
            tokens: tokens.iter().map(|token| Secret::new(*token)).collect(),
            metrics: Metrics::new().unwrap(),
            faults: Arc::new(move || faults.clone()),
            board: Board::default(),
            shadow: ShadowBoard::default(),
            signals: SignalBoard::default(),
            questions: Questions::default(),
            erasures: Requests::new(
                Arc::new(crate::log::memory::MemoryLog::keeping()),
                crate::clock::Clock::system(),
                true,
                Arc::new(|_, _| Vec::new()),
            ),
            notes: Arc::from(["no failure source".to_owned()]),
            gaps: Arc::new(|| vec!["3 went by".to_owned()]),
        };
        let mut request = Request::builder().uri(path);
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let response = router(parts).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_gives_its_reasons() {
        assert_eq!(get(&[], None, "/readyz", None).await.0, StatusCode::OK);
        let (status, body) = get(&[], Some("disk is full"), "/readyz", None).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("disk is full") && body.contains("no failure source"), "{body}");
        assert!(body.contains("3 went by"), "{body}");
        assert_eq!(get(&[], Some("disk is full"), "/livez", None).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_token_closes_figures_and_findings_but_not_the_probes() {
        for path in ["/metrics", "/v1/findings", "/v1/shadow/findings", "/v1/signals", "/v1/explain?entity=203.0.113.7"]
        {
            assert_eq!(get(&["secret", "old"], None, path, None).await.0, StatusCode::UNAUTHORIZED);
            assert_eq!(get(&["secret", "old"], None, path, Some("wrong!")).await.0, StatusCode::UNAUTHORIZED);
            assert_eq!(get(&["secret", "old"], None, path, Some("old")).await.0, StatusCode::OK);
            assert_eq!(get(&[], None, path, None).await.0, StatusCode::OK);
        }
        assert_eq!(get(&["secret"], None, "/livez", None).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_question_that_cannot_be_answered_says_what_is_wrong_with_it() {
        for (query, fault) in [
            ("", "entity: is missing"),
            ("?entity=203.0.113.0%2F25", "entity: networks are counted as /24"),
            ("?entity=alice%40example.com", "entity: an identifier is known by its hash only"),
            ("?entity=", "entity: must be an address"),
            ("?entity=ins_1&entity=ins_2", "entity is given twice"),
            ("?ip=203.0.113.7", "\"ip\" is no parameter"),
        ] {
            let (status, body) = get(&[], None, &format!("/v1/explain{query}"), None).await;
            assert_eq!((status, body.starts_with(fault)), (StatusCode::BAD_REQUEST, true), "{query}: {body}");
        }
        let (status, body) = get(&[], None, "/v1/explain?entity=203.0.113.7&tenant=ins_1", None).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("\"explanations\":[]") && body.contains("nothing is known of it"), "{body}");
    }

    #[test]
    fn listening_beyond_loopback_needs_a_token() {
        let open = Config { listen: "0.0.0.0:9090".parse().unwrap(), ..Config::default() };
        assert!(open.exposure(&[]).is_some_and(|fault| fault.contains("AUTHSPIKE_ADMIN_TOKEN")));
        assert!(open.exposure(&[Secret::new("token")]).is_none());
        assert!(Config::default().exposure(&[]).is_none());
    }
}
