//! The tests that enter where the world enters, and the laws of the house.

mod audit;
mod browser;
mod canary;
mod decisions;
mod demo;
mod forward_proxy;
mod front_door;
mod house;
mod kill;
mod link;
mod model_call;
mod network;
mod openclaw;
mod policy;
mod secrets;
mod tool_call;
mod tools;
mod vault;
