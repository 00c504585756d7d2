//! Who is let through to the origin: the cheap checks first, so that a flood is turned away before its tokens cost curve
//! arithmetic. Each refusal is a reply like any other, which a page of a listed site may read.

use farmgate_shared::ids::UserId;

use crate::forwarding::Passage;
use crate::host::now_ms;
use crate::kept::Kept;
use crate::limit::Kind;
use crate::reply::Reply;
use crate::visit::Visit;

impl Visit {
    /// Lets a request pass as its line of the table says, and says whose it is, where it is somebody's.
    ///
    /// # Errors
    /// The refusal: 429 or 401.
    pub(crate) async fn admit(&self, passage: &Passage) -> Result<Option<UserId>, Reply<Kept>> {
        let (after, before): (Vec<Kind>, Vec<Kind>) =
            passage.limits.iter().partition(|kind| **kind == Kind::User);
        for kind in before {
            self.count(kind, None).await?;
        }
        if !passage.needs_token {
            return Ok(None);
        }
        let authorization = self.header("authorization");
        let user = self.edge.door.borrow_mut().user(authorization.as_deref(), now_ms() / 1000);
        let user = user.map_err(|problem| self.asker().problem(problem, vec![]))?;
        for kind in after {
            self.count(kind, Some(user)).await?;
        }
        Ok(Some(user))
    }

    /// Counts this request.
    ///
    /// # Errors
    /// 429, when it is one too many.
    pub(crate) async fn count(&self, kind: Kind, user: Option<UserId>) -> Result<(), Reply<Kept>> {
        let count = kind.count(&self.client_ip, user);
        self.edge.limits.count(count, now_ms()).await.map_err(|wait_us| self.asker().limited(wait_us))
    }
}
