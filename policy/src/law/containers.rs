//! What an assistant comes to that speaks to Docker by a command: the table behind having no tool of its own for it.

use super::Law;
use super::tests::law;
use crate::Class::{self, CriticalRed, Green, Red, Yellow};
use serde_json::json;

fn class(law: &Law, line: &str) -> Class {
    let arguments = json!({ "command": line });
    let call = crate::Call { assistant: "a", tool: "gatehouse__exec", arguments: &arguments, workspace: "/srv/assistant/workspace", resolved: &[] };
    law.classify(&call).class
}

/// Exactly this class.
#[test]
fn looking_is_green_and_starting_and_stopping_yellow() {
    let law = law().0;
    for (expected, lines) in [
        (
            Green,
            &[
                "docker ps -a",
                "docker container ls --all",
                "docker inspect web",
                "docker logs --tail 100 -f web",
                "docker images",
                "docker stats --no-stream",
                "docker top web",
                "docker port web",
                "docker volume inspect data",
                "docker network ls",
                "docker compose ps",
                "docker compose logs web",
                "podman ps",
            ][..],
        ),
        (
            Yellow,
            &[
                "docker restart web",
                "docker stop web",
                "docker start web",
                "docker kill web",
                "docker compose restart web",
                "docker compose down",
                "docker rm -f web",
                "docker pull nginx",
                "docker run --rm -v ./src:/src node npm test",
                "docker run --network shop nginx",
                "docker exec web ls",
            ],
        ),
    ] {
        for line in lines {
            assert_eq!(class(&law, line), expected, "{line}");
        }
    }
}

/// At least this class.
#[test]
fn what_hands_out_the_machine_or_loses_data_asks_at_every_spelling() {
    let law = law().0;
    for (least, lines) in [
        (
            Red,
            &[
                "docker run --network host alpine",
                "docker run --net=host alpine",
                "docker run --network container:db alpine",
                "docker run --volumes-from db alpine",
                "docker container run --net host alpine",
                "docker run -v $HOME:/h alpine",
                "docker run -v ~/.ssh:/s alpine",
                "docker run -v /../:/h alpine",
                "docker run -v //:/h alpine",
                "docker run -v /./etc:/h alpine",
                "docker run -v ../../..:/h alpine",
                "docker run --mount type=bind,source=/data/../,target=/h alpine",
                "docker container run -v /:/h alpine",
                "docker container run --volume=/etc:/h alpine",
                "docker container create --mount type=bind,src=/,dst=/h alpine",
                "docker rm -v web",
                "docker container rm --volumes web",
                "docker image prune -a",
                "docker push org/app",
                "docker plugin install x",
                "DOCKER_HOST=tcp://198.51.100.7 docker ps",
            ][..],
        ),
        (
            CriticalRed,
            &[
                "docker run --privileged nginx",
                "docker container run --privileged nginx",
                "docker exec --privileged web sh",
                "docker \"run\" '--privileged' nginx",
                "docker $(echo run) --privileged nginx",
                "sudo docker run -v/:/h alpine",
                "docker run -dv /:/h alpine",
                "docker run -v \"/\":/h alpine",
                "docker run -v /var/run/docker.sock:/s alpine",
                "docker run --mount type=bind,source=/,target=/h alpine",
                "docker run --pid host alpine",
                "docker run --cap-add SYS_ADMIN alpine",
                "docker run --security-opt seccomp=unconfined alpine",
                "docker run --device /dev/sda alpine",
                "docker volume rm data",
                "docker volume prune -f",
                "docker compose down -v",
                "docker system prune -af --volumes",
                "docker -H tcp://198.51.100.7:2375 ps",
                "docker exec web rm -rf /",
            ],
        ),
    ] {
        for line in lines {
            assert!(class(&law, line) >= least, "{line}: {:?}", class(&law, line));
        }
    }
}
