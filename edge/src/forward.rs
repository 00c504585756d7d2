//! A request that the edge does not answer: who may send it, and what of it and of its reply goes through.

use farmgate_shared::edge_auth::Signed;
use farmgate_shared::problem::Problem;
use worker::console_error;
use worker::js_sys::{self, Reflect};
use worker::wasm_bindgen::JsValue;

use crate::body;
use crate::host::{is_json, now_ms, passed_headers, random_hex, reason, response};
use crate::origin::{self, Question};
use crate::reply::Header;
use crate::router::Forward;
use crate::visit::Visit;

impl Visit {
    /// To the origin and back.
    pub(crate) async fn forward(
        &self,
        forward: Forward,
        path: &str,
        query: &str,
    ) -> Result<web_sys::Response, JsValue> {
        let passage = forward.passage();
        let user = match self.admit(passage).await {
            Ok(user) => user,
            Err(refused) => return response(refused),
        };
        let subject = user.map(|user| user.to_string()).unwrap_or_default();
        let body = match self.method.as_str() {
            "POST" | "PUT" | "DELETE" => match body::whole(&self.request).await {
                Ok(body) => Some(body),
                Err(problem) => return self.problem(problem),
            },
            _ => None,
        };
        let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut headers = passed_headers(&self.request.headers(), |name| origin::passes_on(name, forward));
        let timestamp = now_ms() / 1000;
        headers.extend(origin::signed_headers(
            &self.edge.settings.edge_key,
            &Signed {
                method: &self.method,
                path_and_query: &path_and_query,
                timestamp: &timestamp.to_string(),
                nonce: &random_hex::<16>()?,
                body: body.as_deref().unwrap_or_default(),
                subject: &subject,
                client_ip: &self.client_ip,
                request_id: &self.request_id,
            },
        ));
        let question = Question {
            url: format!("{}{path_and_query}", self.edge.settings.origin_url),
            method: &self.method,
            headers,
            // `DELETE` without a body is the usual one, and some servers refuse an empty one.
            body: body.as_deref().filter(|body| !(body.is_empty() && self.method == "DELETE")),
            timeout_ms: self.edge.settings.timeout_ms,
        };
        let reply = match question.ask().await {
            Ok(reply) => reply,
            Err(error) => {
                console_error!("{} {path}: {} ({})", self.method, reason(&error), self.request_id);
                return self.problem(Problem::Unavailable);
            }
        };
        if reply.status() >= 500 && !is_json(&reply.headers()) {
            // Not the origin's words but those of something in front of it.
            console_error!("{} {path}: status {} ({})", self.method, reply.status(), self.request_id);
            return self.problem(Problem::Unavailable);
        }
        if passage.may_be_stored && reply.headers().has("cache-control")? {
            self.pass_back(&reply, &[])
        } else {
            self.pass_back(&reply, &[("cache-control", "no-store".into())])
        }
    }

    /// The origin's reply as the client gets it: `set` replaces or adds headers.
    pub(crate) fn pass_back(
        &self,
        reply: &web_sys::Response,
        set: &[Header],
    ) -> Result<web_sys::Response, JsValue> {
        let is_set = |name: &str| set.iter().any(|(header, _)| *header == name);
        let passed = passed_headers(&reply.headers(), |name| origin::passes_back(name) && !is_set(name));
        let headers = js_sys::Object::new();
        for (name, value) in passed {
            Reflect::set(&headers, &name.into(), &value.into())?;
        }
        for (name, value) in self.asker().headers().iter().chain(set) {
            Reflect::set(&headers, &(*name).into(), &(**value).into())?;
        }
        let init = web_sys::ResponseInit::new();
        init.set_status(reply.status());
        init.set_headers(&headers);
        web_sys::Response::new_with_opt_readable_stream_and_init(reply.body().as_ref(), &init)
    }
}
