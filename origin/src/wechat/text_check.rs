//! WeChat's opinion of a text that everybody will read, `msg_sec_check`.

use serde::{Deserialize, Serialize};

use super::mini::{MiniError, MiniProgram};

/// What WeChat suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suggestion {
    Pass,
    /// A person should look at it.
    Review,
    Risky,
}

#[derive(Serialize)]
struct Call<'a> {
    version: u8,
    openid: &'a str,
    /// 2: a comment.
    scene: u8,
    content: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    result: Opinion,
}

#[derive(Deserialize)]
struct Opinion {
    suggest: String,
}

impl MiniProgram {
    /// Asks about a comment of at most 2,500 characters by the shopper of this openid.
    ///
    /// # Errors
    /// [`MiniError`]; 61010 when the shopper was not in the mini-program for two hours, so that WeChat gives no opinion.
    pub async fn check_comment(&self, openid: &str, content: &str) -> Result<Suggestion, MiniError> {
        let call = Call { version: 2, openid, scene: 2, content };
        let answer: Answer = self.post("/wxa/msg_sec_check", &call).await?;
        Ok(match answer.result.suggest.as_str() {
            "pass" => Suggestion::Pass,
            "risky" => Suggestion::Risky,
            // And whatever else it may suggest one day.
            _ => Suggestion::Review,
        })
    }
}
