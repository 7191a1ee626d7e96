"""Runs the migrations and models of Django's own apps.

sqlmigrate.py sql      prints a JSON list of [version, name, SQL] of every migration, in dependency order
sqlmigrate.py migrate  runs the migrations through Django, for comparison
sqlmigrate.py use      uses the tables through Django's models, as the tenant that DJANGO_TENANT names

Connects with libpq's variables: PGHOST, PGPORT, PGUSER, PGDATABASE.
"""

import io
import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

APPS = ["contenttypes", "auth", "admin", "sessions"]


def configure():
    settings.configure(
        INSTALLED_APPS=[f"django.contrib.{app}" for app in APPS],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": os.environ["PGDATABASE"],
                "USER": os.environ["PGUSER"],
                "HOST": os.environ["PGHOST"],
                "PORT": os.environ["PGPORT"],
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        SECRET_KEY="used only in tests",
        USE_TZ=True,
    )
    django.setup()


def print_sql():
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    migrations = []
    for number, (migration, _) in enumerate(executor.migration_plan(executor.loader.graph.leaf_nodes()), start=1):
        sql = io.StringIO()
        call_command("sqlmigrate", migration.app_label, migration.name, stdout=sql, no_color=True)
        migrations.append([f"{number:04}", f"{migration.app_label}.{migration.name}", sql.getvalue()])
    print(json.dumps(migrations))


def use():
    from django.contrib.auth.models import Group, User
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connection, transaction

    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('fluxbase_tenant.user_id', %s, false)", [os.environ["DJANGO_TENANT_USER"]])
        cursor.execute("SELECT slug FROM tenant_set_current(%s)", [os.environ["DJANGO_TENANT"]])
    with transaction.atomic():
        user = User.objects.create_user("ada", "ada@example.com", "secret")
        group = Group.objects.create(name="editors")
        user.groups.add(group)
    session = SessionStore()
    session["seen"] = True
    session.create()
    assert User.objects.get(groups__name="editors").check_password("secret")
    user.delete()
    assert SessionStore(session.session_key)["seen"]
    print(User.objects.count(), Group.objects.count())


if __name__ == "__main__":
    configure()
    if sys.argv[1] == "sql":
        print_sql()
    elif sys.argv[1] == "migrate":
        call_command("migrate", verbosity=0)
    else:
        use()
