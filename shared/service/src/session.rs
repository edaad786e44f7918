//! Cookie sessions: a random token in the browser, its hash in the store.

use crate::random;
use axum::http::{HeaderMap, HeaderValue, header};

/// The cookie of one door.
#[derive(Clone, Debug)]
pub struct Cookie {
    name: &'static str,
    secure: bool,
}

impl Cookie {
    /// Over https the name takes the `__Host-` prefix, which ties the cookie to exactly this host.
    pub fn for_origin(origin: &str) -> Cookie {
        let secure = origin.starts_with("https://");
        Cookie { name: if secure { "__Host-gatehouse" } else { "gatehouse" }, secure }
    }

    pub fn set(&self, token: &str, secs: i64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{}={token}; Path=/; Max-Age={secs}; HttpOnly; SameSite=Strict{secure}", self.name);
        HeaderValue::from_str(&text).expect("tokens are base64url")
    }

    pub fn clear(&self) -> HeaderValue {
        self.set("", 0)
    }

    /// The stored form of the token that a request carries. Two cookies of our name are none.
    pub fn token_hash(&self, headers: &HeaderMap) -> Option<String> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == self.name);
        match (found.next(), found.next()) {
            (Some((_, token)), None) if token.len() == 43 => Some(random::token_hash(token)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::COOKIE, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn one_well_formed_cookie_is_a_session_and_nothing_else() {
        let token = random::token();
        let cookie = Cookie::for_origin("http://alice.localhost:8410");
        let ours = format!("gatehouse={token}");
        assert_eq!(cookie.token_hash(&cookies(&[&format!("a=b; {ours}")])), Some(random::token_hash(&token)));
        for bad in [cookies(&[]), cookies(&["gatehouse="]), cookies(&["gatehouse=short"]), cookies(&[&ours, &ours]), cookies(&[&format!("xgatehouse={token}")])]
        {
            assert_eq!(cookie.token_hash(&bad), None);
        }
        assert!(
            Cookie::for_origin("https://a.example")
                .set("t", 1)
                .to_str()
                .unwrap()
                .starts_with("__Host-gatehouse=t; Path=/; Max-Age=1; HttpOnly; SameSite=Strict; Secure")
        );
    }
}
