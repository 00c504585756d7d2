//! `endpoints.json`: where the running shop's parts answer. It exists only while all of them do.

use crate::run_file::write_whole;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    pub edge: Option<String>,
    pub origin: Option<String>,
    pub admin: Option<String>,
    pub preview: Option<String>,
    pub wechat_sim: Option<String>,
    pub mysql_url: Option<String>,
    pub redis_url: Option<String>,
    pub demo: Demo,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Demo {
    pub admin_user: Option<String>,
    pub admin_password: Option<String>,
}

impl Endpoints {
    pub fn path(state: &Path) -> PathBuf {
        state.join("endpoints.json")
    }

    pub fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(state)).ok()?).ok()
    }

    pub fn write(&self, state: &Path) -> Result<()> {
        write_whole(&Self::path(state), &serde_json::to_vec_pretty(self)?)
    }

    pub fn remove(state: &Path) {
        let _ = std::fs::remove_file(Self::path(state));
    }

    /// What the user reads when the shop is up.
    pub fn describe(&self) -> String {
        let rows = [
            ("edge", &self.edge),
            ("origin", &self.origin),
            ("admin", &self.admin),
            ("preview", &self.preview),
            ("wechat-sim", &self.wechat_sim),
            ("mysql", &self.mysql_url),
            ("redis", &self.redis_url),
        ];
        let rows = rows.iter().filter_map(|(name, url)| Some(format!("  {name:<11}{}\n", url.as_ref()?)));
        let mut text: String = rows.collect();
        if let Some(edge) = &self.edge {
            text.push_str(&format!("\n  curl '{edge}/api/products?keyword=%E8%8B%B9%E6%9E%9C&size=3'\n"));
            text.push_str(&format!(
                "  curl -X POST {edge}/api/user/login -H 'content-type: application/json' -d '{{\"code\":\"as:xiaoming:1\"}}'\n"
            ));
        }
        text
    }
}
