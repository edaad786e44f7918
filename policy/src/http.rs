//! stub
use crate::Judgement;
#[derive(Debug, Default)]
pub struct Http;
pub struct Request<'a> {
    pub url: &'a str,
}
impl<'a> Request<'a> {
    pub fn get(url: &'a str) -> Request<'a> {
        Request { url }
    }
}
impl Http {
    pub fn judge(&self, _: &Request<'_>) -> Judgement {
        Judgement::default()
    }
}
