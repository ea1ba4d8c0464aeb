//! The handlers that `builtins:` adds, as the SDK's own include files have them.

/// A builtin's name and the file it stands for.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Known to the older runtimes only (R-LENIENT).
    pub(super) retired: bool,
}

pub(super) const ALL: [Builtin; 8] = [
    Builtin {
        name: "admin_redirect",
        text: "handlers:\n- url: /_ah/admin.*\n  script: google.appengine.ext.admin_redirect.main.APP\n",
        retired: false,
    },
    Builtin {
        name: "appstats",
        text: "handlers:\n- url: /_ah/stats.*\n  script: google.appengine.ext.appstats.ui.app\n",
        retired: false,
    },
    Builtin {
        name: "datastore_admin",
        text: "builtins:\n- mapreduce: on\nhandlers:\n- url: /_ah/datastore_admin.*\n  \
               script: google.appengine.ext.datastore_admin.main.APP\n  login: admin\n",
        retired: true,
    },
    Builtin { name: "default", text: "", retired: false },
    Builtin {
        name: "deferred",
        text: "handlers:\n- url: /_ah/queue/deferred\n  script: google.appengine.ext.deferred.application\n  \
               login: admin\n",
        retired: false,
    },
    Builtin {
        name: "django_wsgi",
        text: "handlers:\n- url: /.*\n  script: google.appengine.ext.django.main.app\n  position: tail\n",
        retired: false,
    },
    Builtin {
        name: "mapreduce",
        text: "handlers:\n- url: /_ah/mapreduce.*\n  script: google.appengine.ext.mapreduce.main.APP\n  \
               login: admin\n",
        retired: true,
    },
    Builtin {
        name: "remote_api",
        text: "handlers:\n- url: /_ah/remote_api(/.*)?\n  script: google.appengine.ext.remote_api.handler.application\n",
        retired: false,
    },
];

pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|builtin| builtin.name == name)
}
