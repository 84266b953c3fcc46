//! What a start does with what is still to be told.

use super::{Owner, assert_signed, options, something_happens};
use crate::support::{App, Receiver, Reply, World};

const OLD: &str = "before-before-before-before-before-before";
const NEW: &str = "after-after-after-after-after-after-after";

/// Has the next start find a project with this webhook and this secret.
fn declare(world: &mut World, receiver: &Receiver, secret: &str) {
    let folder = world.folder.path();
    std::fs::write(folder.join("secret"), secret).unwrap();
    let url = receiver.url("/hook");
    let text = format!(
        "[[project]]\nid = \"proj_shop\"\nname = \"Shop\"\nsecret_file = \"secret\"\nwebhook_url = \"{url}\"\n"
    );
    let path = folder.join("projects.toml");
    std::fs::write(&path, text).unwrap();
    world.apps().projects = Some(path);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_goes_where_the_file_of_projects_says_now() {
    let (old, new) = (Receiver::new().await, Receiver::new().await);
    let mut world = World::without_service(options()).await;
    let (_, bot) = world.new_bot("login_bot").await;
    world.set_bot_token(&bot);
    declare(&mut world, &old, OLD);
    world.start().await.unwrap();
    world.bot_is("ok").await;
    let app = App { service: world.service.clone(), id: "proj_shop".into(), secret: OLD.into() };
    old.answer_with(Reply::silence());
    something_happens(&app).await;
    let first = old.next().await;
    assert_signed(&first, &[OLD]);
    world.stop().await;

    declare(&mut world, &new, NEW);
    world.start().await.unwrap();
    let again = new.next().await;
    assert_eq!((again.header("webhook-id"), &again.body), (first.header("webhook-id"), &first.body));
    assert_signed(&again, &[NEW]);
    let owner = Owner::of(&world).await;
    let app = App { service: world.service.clone(), id: app.id, secret: NEW.into() };
    owner.delivered(&app).await;
    assert_eq!((old.connections(), new.connections()), (1, 1));
    world.end().await;
}
