//! Which provider and model answer for a purpose, and when another one may answer instead.
//!
//! The other one is asked once, and only when the first failed in a way that says nothing about the request: it was busy, out
//! of order or out of reach. A refusal is an answer. For `review` what is asked is pinned, so that two reviews of one thing
//! are the same review, and whatever fails, fails closed.

use crate::bundle::{Purpose, Routes, Target};

/// The purpose whose answers other decisions stand on.
pub const REVIEW: &str = "review";
/// What is taken for a purpose that nobody described.
pub const GENERAL: &str = "general";

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub purpose: String,
    pub first: Target,
    pub second: Option<Target>,
    pub pin: Option<Pin>,
}

/// What stands in a request whatever its writer put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub output_tokens_max: i64,
}

/// How an attempt failed before the first byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Status(u16),
    /// It never left.
    Connect,
    TimedOut,
    /// The connection broke after it had left.
    Broken,
}

/// What a failure says of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    Quota,
    Server,
    Overloaded,
    Network,
    NotTransient,
}

impl Failure {
    pub fn class(self) -> FailureClass {
        match self {
            Failure::Status(429) => FailureClass::Quota,
            Failure::Status(500..=504) => FailureClass::Server,
            Failure::Status(529) => FailureClass::Overloaded,
            Failure::Connect | Failure::TimedOut => FailureClass::Network,
            Failure::Status(_) | Failure::Broken => FailureClass::NotTransient,
        }
    }

    /// Whether it says something of the provider or of its key, and not of the request.
    pub fn is_the_providers(self) -> bool {
        self.class() != FailureClass::NotTransient || matches!(self, Failure::Broken | Failure::Status(401..=403))
    }
}

impl FailureClass {
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Quota => "transient_quota",
            FailureClass::Server => "transient_server",
            FailureClass::Overloaded => "transient_overloaded",
            FailureClass::Network => "transient_network",
            FailureClass::NotTransient => "non_transient",
        }
    }
}

impl Routes {
    /// The way for a purpose; `None` where there is none.
    pub fn way(&self, purpose: &str) -> Option<Way> {
        let (name, Purpose { provider, model, output_tokens_max, fallback }) =
            self.purposes.get_key_value(purpose).or_else(|| self.purposes.get_key_value(GENERAL).filter(|_| purpose != REVIEW))?;
        let pin = (name == REVIEW).then(|| Pin { output_tokens_max: output_tokens_max.unwrap_or(REVIEW_TOKENS) });
        Some(Way { purpose: name.clone(), first: Target { provider: provider.clone(), model: model.clone() }, second: fallback.clone(), pin })
    }

    pub fn is_disabled(&self, provider: &str) -> bool {
        self.disabled.contains(provider)
    }
}

/// What a review may write where nobody says otherwise.
pub const REVIEW_TOKENS: i64 = 600;

impl Way {
    /// Whether the second one is asked after the first failed like this.
    pub fn falls_back(&self, failure: Failure) -> bool {
        match failure.class() {
            FailureClass::Quota | FailureClass::Server | FailureClass::Network => true,
            FailureClass::Overloaded => self.purpose != REVIEW,
            FailureClass::NotTransient => false,
        }
    }

    /// Nothing but an answer gets through.
    pub fn fails_closed(&self) -> bool {
        self.purpose == REVIEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let target = |name: &str| Target { provider: name.to_owned(), model: "m".to_owned() };
        let purpose = |name: &str, fallback: Option<&str>, output_tokens_max| Purpose {
            provider: name.to_owned(),
            model: "m".to_owned(),
            output_tokens_max,
            fallback: fallback.map(target),
        };
        let purposes = [
            (REVIEW.to_owned(), purpose("a", Some("b"), None)),
            (GENERAL.to_owned(), purpose("b", Some("a"), Some(5))),
            ("vision".to_owned(), purpose("c", None, None)),
        ];
        Routes { disabled: ["d".to_owned()].into(), purposes: purposes.into() }
    }

    #[test]
    fn each_purpose_has_its_way_and_an_unknown_one_is_general() {
        let routes = routes();
        for (purpose, way, first, second) in [("review", "review", "a", Some("b")), ("vision", "vision", "c", None), ("poetry", "general", "b", Some("a"))] {
            let found = routes.way(purpose).unwrap();
            assert_eq!(
                (found.purpose.as_str(), found.first.provider.as_str(), found.second.as_ref().map(|target| target.provider.as_str())),
                (way, first, second)
            );
        }
        assert_eq!(routes.way("review").unwrap().pin, Some(Pin { output_tokens_max: 600 }));
        assert_eq!(routes.way("general").unwrap().pin, None, "only a review is pinned");
        let without = Routes { purposes: [(GENERAL.to_owned(), routes.purposes[GENERAL].clone())].into(), ..Routes::default() };
        assert_eq!(without.way("review"), None, "a review is never done by whoever happens to be there");
        assert_eq!(Routes::default().way("general"), None);
        assert!(routes.is_disabled("d") && !routes.is_disabled("a"));
    }

    #[test]
    fn the_second_is_asked_only_when_the_first_says_nothing_about_the_request() {
        let routes = routes();
        let (review, general) = (routes.way("review").unwrap(), routes.way("general").unwrap());
        for failure in [Failure::Status(429), Failure::Status(500), Failure::Status(502), Failure::Status(504), Failure::Connect, Failure::TimedOut] {
            assert!(review.falls_back(failure) && general.falls_back(failure), "{failure:?}");
        }
        for status in [200, 301, 400, 401, 403, 404, 408, 413, 422, 505, 599] {
            assert!(!review.falls_back(Failure::Status(status)) && !general.falls_back(Failure::Status(status)), "{status}");
        }
        assert!(Failure::Status(401).is_the_providers() && Failure::Broken.is_the_providers() && Failure::Status(503).is_the_providers());
        assert!(!Failure::Status(400).is_the_providers() && !Failure::Status(404).is_the_providers());
        assert!(!review.falls_back(Failure::Broken) && !general.falls_back(Failure::Broken), "it may have been answered and paid");
        assert!(general.falls_back(Failure::Status(529)) && !review.falls_back(Failure::Status(529)));
        assert_eq!(Failure::Status(529).class().name(), "transient_overloaded");
    }
}
