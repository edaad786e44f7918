//! The tests that enter where the world enters, and the laws of the house.

mod ask_approval;
mod audit;
mod browser;
mod canary;
mod decisions;
mod demo;
mod first_hour;
mod forward_proxy;
mod front_door;
mod house;
mod http_request;
mod kill;
mod levels;
mod link;
mod mail;
mod model_call;
mod network;
mod openclaw;
mod policy;
mod secrets;
mod tool_call;
mod tools;
mod vault;
