"""Texts that hold a secret, as programs and libraries write them, and ordinary texts that look much like them.

In each text ``{}`` stands for the secret. The words behind a bar must stay readable.
"""

# ruff: noqa: E501  # a text is one line, as its kind has it
from __future__ import annotations

import textwrap


def _rows(table):
    return [tuple(line.split(" | ")) for line in textwrap.dedent(table).strip().splitlines()]


def _texts(table):
    """Return pairs of a text and the words that stay; \\n in the table is a line break."""
    return [(text.replace("\\n", "\n"), rest[0].split(" & ") if rest else []) for text, *rest in _rows(table)]


ASSIGNED = _texts(r"""
    login failed: password={} | login failed
    password={} user=ada | user=ada
    bad option PASSWORD={}, id 7 | bad option & id 7
    (password={}) refused | refused
    environment had DB_PASS={} and no DB_HOST | environment had & and no DB_HOST
    exit status 1: PGPASSWORD={} psql -h db1 | psql -h db1
    exit status 1: MYSQL_PWD={} mysqldump shop | mysqldump shop
    REDIS_PASSWORD={} redis-server | redis-server
    export AWS_SECRET_ACCESS_KEY={} | export
    SECRET_KEY_BASE={} rails s | rails s
    wrong pin={} for card 3 | wrong & for card 3
    otp={} is too old | is too old
    cvv={} does not match | does not match
    {{"pin": {}, "n": 3}} was refused | was refused
    with password {}9 for ada | for ada
    the passphrase is {}9 of ada | of ada
    line 3 of config: smtp_password = {} | line 3 of config
    [smtp]\nuser = ada\npassword = {}\nport = 25 | user = ada & port = 25
    [smtp]\npass phrase = three words {} | [smtp]
    api_key := {} | api_key
    config['password'] = {} | config
    os.environ["API_TOKEN"] = '{}' at line 3 | at line 3
    self.session_id='{}' in state 4 | in state 4
    User(name='ada', password='{}', age=3) | name='ada' & age=3
    User(name='ada', password=SecretText('{}', 3), age=3) | name='ada' & age=3
    name='ada' api_key='{}' active=True | name='ada' & active=True
    bad option token='first half\n{}' in line 4 | bad option & in line 4
    bad option token="it's {}" in line 4 | in line 4
    token=`{}` in the shell | in the shell
    password=b'{}' as bytes | as bytes
    db.password=rf"{}" in settings | in settings
    password == {} | password
    -Dkeystore.password={} -jar app.jar | -jar app.jar
    next=%2Fstart%3Ftoken%3D{} | next=
    next=%2Fstart%3Fapi_key%3D{}%26page%3D3 | page
    form errors in name=ada&password_confirmation={}&terms=1 | name=ada & terms=1
    401 from /token for grant_type=password&username=ada&password={}&scope=all | username=ada & scope=all
    csrfmiddlewaretoken={}&title=x was refused | was refused
""")
COLONS = _texts(r"""
    bad line in .env: SMTP_PASS: {} | bad line in .env
    db_password: {}, id: 7 | id: 7
    {{'detail': 'password: {}'}} was returned | was returned
    wrong credentials: {} | wrong
    api-key "{}9" is not valid | is not valid
    invalid token '{}9' for ada | for ada
    the API key `{}9` was refused | was refused
    the private key is {}9 | the private key
    Incorrect API key provided: {}. You can find yours at x.example | You can find yours
    recovery code {}9 was used twice | was used twice
    2FA code: {}9 is old | is old
    Invalid API key: {} | Invalid API key
    the access token : {} | access token
    Client Secret: {} | Client Secret
    password: three words {} | password
    mapping failed: password -> {} | mapping failed
    mapping failed: token => {} | mapping failed
    password → {} | password
    bad settings:\nname: ada\npassword:\n  {}\nport: 25 | name: ada & port: 25
    bad settings:\npassword: |\n  first\n  {}\nport: 25 | port: 25
    bad settings:\npassword: >-\n    {}\nport: 25 | port: 25
    {{'user': 'ada', 'password': '{}', 'n': 1}} | 'user': 'ada' & 'n': 1
    {{"user": "ada", "password": "{}", "n": 1}} | "user": "ada" & "n": 1
    {{"token":"{}","n":1}} | "n":1
    {{b'password': b'{}', b'n': 1}} | b'n': 1
    could not parse "{{\"user\": \"ada\", \"password\": \"{}\"}}" in body | ada & in body
    could not parse '{{\'user\': \'ada\', \'password\': \'{}\'}}' in body | ada & in body
    event: "{{\\\"user\\\": \\\"ada\\\", \\\"client_secret\\\": \\\"{}\\\"}}" in body | ada & in body
    {{password: "{}", user: "ada"}} | user: "ada"
    {{"password" : "a\"b {}", "n": 1}} | "n": 1
    {{'password': 'it\'s {}', 'n': 1}} | 'n': 1
    {{'password': "it's {}", 'n': 1}} | 'n': 1
    password: '{}' # from the vault | from the vault
    {{"name": "DB_PASSWORD", "value": "{}"}} in the list | in the list
    {{'Name': 'API_KEY', 'Value': '{}'}} in the list | in the list
    <add key="password" value="{}"/> at line 3 | at line 3
    <input type="hidden" name="csrf_token" value="{}"> | hidden
""")
LISTS = _texts(r"""
    cannot post {{"api_keys": ["{}"], "n": 3}} | "n": 3
    bad entry {{'user': 'ada', 'passwords': ['{}', 'x']}} | 'user': 'ada'
    overlap of secrets={{'{}'}} and names={{'ada'}} | overlap & names={{'ada'}}
    passwords=('{}', 'b') of ada | of ada
    refused: {{'credentials': {{'user': 'ada', 'p': '{}'}}, 'port': 25}} | 'port': 25
    {{"auth":{{"user":"ada","x":["{}"]}},"n":1}} | "n":1
    {{"auth": {{"q": "br]ack}}et", "x": "{}"}}, "n": 1}} | "n": 1
    tokens=frozenset({{'{}'}}) of ada | of ada
    credentials: Login(user='ada', p='{}') of ada | of ada
    token=<Token {}> of ada | of ada
    secrets=['{} | secrets
    api_keys: [a, b, {}] | api_keys
    Command '['deploy', '--token={}', '--dry']' timed out | '--dry' & timed out
    Command '['deploy', '--password', '{}', '--dry']' failed | '--dry' & failed
    unexpected arguments: ('login', '--client-secret', '{}') | 'login'
    argv was ["login", "--api-key", "{}", "now"] | "now"
    the header was ('Authorization', 'Token {}') | the header was
    scope had headers [(b'host', b'h'), (b'cookie', b'a={}')] | b'host'
    sent [['X-Api-Key', '{}'], ['Accept', 'text/csv']] and got 500 | text/csv & and got 500
    sent [("authorization", "Basic {}"), ("accept", "*/*")] | "accept"
""")
COMMANDS = _texts(r"""
    while connecting with --password {} | while connecting with
    cannot start: worker --db-password '{}' --queue mail | worker & --queue mail
    cannot start: worker --token "{}" --queue mail | --queue mail
    worker -password {} -queue mail | -queue mail
    deploy --api-key={} --dry failed | --dry failed
    deploy --auth-token {} | deploy
    docker run -e DB_PASSWORD={} app | docker run
    docker login -u ada --password {} registry | registry
    curl -u ada:{} https://api.example/me | https://api.example/me
    http -a ada:{} https://api.example/me | https://api.example/me
    ['http', '--auth', 'ada:{}', 'api.example'] | api.example
    mongosh -u ada -p {} shop | shop
    ['mongodump', '-p', '{}', 'shop'] | shop
    openssl enc -aes256 -k {} -in a.txt | -in a.txt
    ssh-keygen -t rsa -N '{}' -f key | -f key
    ldapsearch -x -D cn=ada -w {} -b dc=x | -b dc=x
    unzip -P {} a.zip | a.zip
    setx API_TOKEN "{}9" | setx
    aws configure set aws_secret_access_key {}9 | aws configure set
    a1 LOGIN ada {} | a1 LOGIN ada
    no answer of //ada:{}@db.example/shop | db.example/shop
    curl --user ada:{} https://api.example/me | https://api.example/me
    ['curl', '-u', 'ada:{}', 'https://api.example/me'] | api.example
    curl -H "Authorization: Bearer {}" https://api.example/me | api.example
    curl -H 'X-Api-Key: {}' https://api.example/me | https://api.example/me
    mysqldump -uada -p{} shop | shop
    ['mysql', '-uada', '-p{}', 'shop'] | shop
    sshpass -p {} ssh host | ssh host
    ['sshpass', '-p', '{}', 'ssh'] | ssh
    redis-cli -h db -a {} ping | ping
    ALTER ROLE ada PASSWORD '{}'; | ALTER ROLE ada
    CREATE USER 'ada' IDENTIFIED BY '{}' | CREATE USER
    SET password = '{}' WHERE id = 3 | SET
    the password '{}' is too short | is too short
    the password is '{}' | the password
    sqlplus scott/{}@db1 | db1
    > PASS {} | PASS
    sent 'AUTH {}' to redis | to redis
    CONFIG SET requirepass {} | CONFIG SET
    machine h login ada password {} | login ada
    db.example:5432:shop:ada:{} | db.example
""")
HEADERS = _texts(r"""
    Authorization: Bearer {} | Authorization
    401 for Authorization: ApiKey {} | 401 for
    401 for Authorization: Digest username="ada", response="{}" | 401 for
    403: Authorization: AWS4-HMAC-SHA256 Credential=AKIA/2024, SignedHeaders=host, Signature={} | 403
    Proxy-Authorization: Basic {}\nAccept: */* | Accept: */*
    {{'Authorization': 'Token {}', 'Accept': '*/*'}} | '*/*'
    sent Bearer {} | sent Bearer
    X-Auth-Token => {} | X-Auth-Token
    X-Api-Key: {}\nAccept: */* | Accept: */*
    X-Vault-Token: {} | X-Vault-Token
    Private-Token: {} | Private
    Ocp-Apim-Subscription-Key: {} | Ocp
    x-hub-signature-256: sha256={} | x-hub
    bad request: Cookie: theme=dark; sid={} | bad request
    400 for GET /cart\nCookie: lang=de; cart=4; member={}\nAccept: */* | 400 for GET /cart & Accept: */*
    unexpected Set-Cookie: theme=dark; Path=/; auth={}; HttpOnly | unexpected
    headers were {{'Accept': '*/*', 'Cookie': 'lang=de; visit={}'}} | '*/*'
    could not log in: Cookie: lang=de; session_ref={} | could not log in
    "Cookie: a=1; b={}" was sent | was sent
    set-cookie2: x={} | set-cookie2
""")
URLS = _texts(r"""
    no such database: postgres://ada:{}@db.example/shop | ada & db.example/shop
    no such database: postgres://ada:pa@{}@db.example/shop | db.example/shop
    no such database: mysql://ada:pa/{}@db.example/shop | db.example/shop
    no such database: mysql://ada:pa#{}@db.example/shop | db.example/shop
    no such database: mysql://ada:p?a{}@db.example/shop | db.example/shop
    redis://:{}@cache.example:6379/0 is down | cache.example:6379/0 is down
    rediss://default:{}@cache.example:6379 is down | is down
    amqp://guest:{}@mq.example:5672/%2f is down | mq.example & is down
    mongodb+srv://ada:{}@c1.mongo.example/shop?w=majority | w=majority
    mongodb://ada:{}@h1.example:27017,h2.example:27017/shop | shop
    smtp://ada%40x.org:{}@mail.example:587 | mail.example:587
    ftp://ada:{}@ftp.example/a.csv?mail=a@b.org | ftp.example/a.csv
    https://ada:{}@[::1]:8080/x | [::1]:8080/x
    fatal: repository 'https://{}9@git.example/a/b.git/' not found | git.example/a/b.git & not found
    https://x-token-auth:{}@git.example/a | git.example/a
    https://{}9:x-oauth-basic@git.example/a | git.example/a
    401 Client Error for url: https://api.example/v1?api_key={} | 401 Client Error for url & api.example/v1
    with url: /v1?token={} (Caused by NewConnectionError) | (Caused by NewConnectionError)
    dsn: postgres://db/shop?password={} | dsn
    GET https://api.example/me?access_token={}&page=3 | page=3
    GET https://api.example/me?page=3&apikey={}#top | page=3
    GET https://api.example/me?user[password]={} | api.example
    GET https://api.example/me?user%5Bpassword%5D={}&n=1 | n=1
    GET https://api.example/me?a=1&amp;token={}&amp;b=2 | a=1 & b=2
    404 for https://store.example/x.csv?sv=2022&sig={} | sv=2022
    https://s3.example/x?X-Amz-Expires=60&X-Amz-Signature={} | X-Amz-Expires=60
    https://s3.example/x?X-Amz-Credential={}&X-Amz-Date=1 | X-Amz-Date=1
    https://s3.example/x?X-Amz-Security-Token={}&X-Amz-Date=1 | X-Amz-Date=1
    https://gcs.example/x?X-Goog-Signature={} | gcs.example
    https://cdn.example/x?Expires=1&Signature={}&Key-Pair-Id=K | Expires=1
    https://app.example/back?code={}&scope=mail | scope=mail
    https://app.example/back?state={}&scope=mail | scope=mail
    https://app.example/back#id_token={}&n=1 | n=1
    https://maps.example/api?key={}&zoom=3 | zoom=3
    https://app.example/reset?ticket={} | app.example
    https://app.example/saml?SAMLResponse={} | app.example
    https://app.example/password/{}9/change | app.example
    https://app.example/token/{}9 | app.example
    404 from https://hooks.slack.com/services/T00AA/B00BB/{} | hooks.slack.com
    400 from https://discord.com/api/webhooks/8811223344/{} | discord.com
    https://x.webhook.office.com/webhookb2/{}/IncomingWebhook/1 | office.com
    https://hooks.zapier.com/hooks/catch/12345/{} | hooks.zapier.com
    https://chat.example/v1/spaces/A/messages?key=k&token={} | chat.example
    sentry dsn https://{}9@o1.ingest.example/2 | ingest.example/2
    jdbc:mysql://db.example/shop?user=ada&password={} | user=ada
    jdbc:sqlserver://db.example;user=ada;password={};encrypt=true | user=ada & encrypt=true
    jdbc:oracle:thin:scott/{}@//db.example:1521/x | db.example:1521/x
    Server=db;User Id=ada;Password={};Database=shop | User Id=ada & Database=shop
    Server=db;User Id=ada;Pwd=three words {};Database=shop | Database=shop
    Driver={{ODBC}};SERVER=db;UID=ada;PWD={} | UID=ada
    DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}==;EndpointSuffix=core | AccountName=a & EndpointSuffix=core
    Endpoint=sb://x/;SharedAccessKeyName=k;SharedAccessKey={}= | SharedAccessKeyName=k
    connection to host=db user=ada password={} dbname=shop failed | user=ada & dbname=shop failed
    connection to host=db user=ada password='a b {}' dbname=shop failed | dbname=shop failed
""")
LIBRARIES = _texts(r"""
    1 validation error for Client\napi_key\n  Input should be an integer [type=int_parsing, input_value='{}', input_type=str] | api_key & Input should be
    2 validation errors for S\nsmtp.secret\n  Input should be a string [type=x, input_value=['{}'], input_type=list]\nport\n  Input bad [type=x, input_value='eighty', input_type=str] | eighty
    1 validation error for L\nuser\n  Field required [type=missing, input_value={{'password': '{}', 'n': 1}}, input_type=dict] | Field required
    1 validation error for L\nuser\n  Field required [type=missing, input_value={{'passw...{}'}}, input_type=dict] | Field required
    1 validation error for L\ntokens.0\n  Input bad [type=x, input_value='{}', input_type=str] | Input bad
    1 validation error for L\nusers.3.password\n  Input bad [type=x, input_value='it\'s, input_type={}', input_type=str]\n    For more | Input bad & For more
    (sqlite3.Error) no\n[SQL: INSERT INTO users VALUES (?, ?)]\n[parameters: ('ada', '{}')]\n(Background) | INSERT INTO users & (Background)
    (pymysql.err.DataError) too long\n[parameters: [('ada', '{}'), ('bob', 'y')]] | too long
    (psycopg.Error) no\n[parameters: {{'name': 'ada', 'x': '{}'}}] | no
    duplicate key value\nDETAIL:  Key (api_key)=({}) already exists. | Key (api_key) & already exists
    duplicate key value\nDETAIL:  Key (tenant, api_key)=(1, a)b {}) already exists. | already exists
    null value\nDETAIL:  Failing row contains (1, ada, {}). | null value
    DETAIL:  parameters: $1 = 'ada', $2 = '{}' | DETAIL
    (1062, "Duplicate entry '{}' for key 'users.api_key'") | 1062
    (1062, "Duplicate entry '{}' for key 'users_token_unique'") | 1062
    in INSERT INTO users (name, password) VALUES ('ada', '{}') | INSERT INTO users
    '{}' is too short\n\nFailed validating 'minLength' in schema\n\nOn instance['password']:\n    '{}' | is too short
    schema error near <user name="ada" password="{}"/> | name="ada"
    schema error near <password>{}</password><n>1</n> | <n>1</n>
    schema error near <ns:apiKey type="x">{}</ns:apiKey> | schema error
    schema error near <password><![CDATA[{}]]></password> end | end
    schema error near <password>{} | schema error
    schema error near <key>api_token</key>\n<string>{}</string> end | end
    Traceback: headers={{'authorization': 'Bearer {}'}}, timeout=3 | timeout=3
    HTTPError: 401 for {{"client_id": "c1", "client_secret": "{}"}} | c1
""")
TABLES = [
    (text.replace("\\n", "\n").replace("\\t", "\t"), words)
    for text, *words in [
        (r"|id|password|note|\n|--|:------:|----|\n|1|{}|ok|\n|2|{}|fine|\n\nafter", "|id|", "|1|", "|fine|", "after"),
        (r"id | API key\n--- | ---\n1 | {}\n2 | {}", "id | API key", "2 |"),
        (r" id | api_key \n----+---------\n  1 | {}\n(1 row)\n", "  1 |", "(1 row)"),
        (r"-[ RECORD 1 ]--\nid       | 1\npassword | {}\nuser     | ada", "id       | 1", "user     | ada"),
        (r"+----+-------+\n| id | token |\n+----+-------+\n|  1 | {} |\n+----+-------+", "|  1 |"),
        (r"┌────┬─────┐\n│ id ┆ pin │\n│ -- ┆ --- │\n╞════╪═════╡\n│ 1  ┆ {}  │\n└────┴─────┘", "│ 1  ┆"),
        (r"+----+-----+\n|key |value|\n+====+=====+\n|pin |{}|\n+----+-----+\n|user|ada|", "|user|ada|"),
        (r"|===\n|user |password\n\n|ada |{}\n|===", "|ada |"),
        (r"||user||password||\n|ada|{}|\n|bob|{}|", "|ada|", "|bob|"),
        (r"| user | password |\n| --- | --- |\n| ada | {}\|{} |", "| ada |"),
        (r"| password | user |\n| --- | --- |\n| a|{} | ada |", "| --- |"),
        (r"id,user,password\n1,ada,{}\n2,bob,{}\n", "1,ada,", "2,bob,"),
        (r"no such row in: id,password\n1,{}\n\nrows: 1", "no such row in: id,password", "rows: 1"),
        ('"id","password","note"\n"1","{}","x"', '"1",', '"x"'),
        (r"id,password,note\n1,\"a,{}\",x\n2,\"b\n{}", "1,", "2,"),
        (r"id;api_key;note\n1;{};x", "1;", ";x"),
        (r"id\tpassword\n1\t{}", "1\t"),
        (r"id, password, note\n1, {}, ok", "1, ", ", ok"),
        (r"id,password\n1,a,{}\n2,{}", "1,", "2,"),
        (r"parse('id,password\\n1,{}')", "parse('id,password"),
        (r'{{"body": "id,password\\n1,{}\\n"}}', "1,"),
        (r"   id password\n0   1  {}\n1   2  {}", "0   1", "1   2"),
        (r"     password\n0  {}", "0  "),
        (r"user        ada\npassword    {}\nage          3", "user        ada"),
        (r"NAME PASSWORD\n---- ----------\nada  {}", "ada  "),
        (r"====  ==========\nuser  password\n====  ==========\nada   {}\n====  ==========", "ada   "),
        (r"USER      PASSWORD      HOST\nada       {}    db1\nbob       {}    db2", "ada       ", "db1", "db2"),
        (r" password \n----------\n {}\n(1 row)", "(1 row)"),
        ("<tr><th>user</th><th>pin</th><th>n</th></tr><tr><td>ada</td><td>{}</td><td>3</td></tr>", "<td>ada", "<td>3"),
        ("<TABLE><TR><TD>user<TD>ada<TR><TD>password<TD>{}</TABLE>", "<TD>ada"),
    ]
]
SHAPES = [*TABLES, *ASSIGNED, *COLONS, *LISTS, *COMMANDS, *HEADERS, *URLS, *LIBRARIES]

RANDOM = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
HEX = "9101106b3ddd8b9dffba1e18edf6f835e9b609cb"
MAKES = [
    *("AKIA" + "ABCD2345EFGH6789", "ASIA" + "ABCD2345EFGH6789", "sk_live_" + RANDOM, "rk_live_" + RANDOM),
    *("sk_test_" + RANDOM, "whsec_" + RANDOM, "sk-" + RANDOM + RANDOM, "sk-proj-" + RANDOM, "sk-ant-api03-" + RANDOM),
    *("sk-svcacct-" + RANDOM, "sk-or-v1-" + HEX, "gsk_" + RANDOM, "xai-" + RANDOM, "pplx-" + RANDOM, "r8_" + RANDOM),
    *("hf_" + RANDOM, "AIza" + RANDOM[:35], "ya29." + RANDOM, "GOCSPX-" + RANDOM, "1//0" + RANDOM),
    *("ghp_" + RANDOM, "gho_" + RANDOM, "ghu_" + RANDOM, "ghs_" + RANDOM, "ghr_" + RANDOM, "github_pat_" + RANDOM),
    *("glpat-" + RANDOM[:20], "gldt-" + RANDOM[:20], "glrt-" + RANDOM[:20], "xoxb-" + RANDOM, "xoxp-" + RANDOM),
    *("xapp-1-" + RANDOM, "M" + RANDOM[:23] + ".Gh4s_7." + RANDOM, "8123456789:AA" + RANDOM, "SK" + HEX[:32]),
    *("SG." + RANDOM[:22] + "." + RANDOM, "key-" + HEX[:32], "shpat_" + HEX[:32], "shpss_" + HEX[:32]),
    *("sq0atp-" + RANDOM, "EAAC" + RANDOM, "npm_" + RANDOM, "pypi-AgEIcHlwaS5vcmc" + RANDOM, "rubygems_" + HEX),
    *("dop_v1_" + HEX, "doo_v1_" + HEX, "dckr_pat_" + RANDOM, "hvs." + RANDOM, "dp.pt." + RANDOM, "dapi" + HEX[:32]),
    *("ATATT3" + RANDOM, RANDOM[:14] + ".atlasv1." + RANDOM, "glsa_" + RANDOM, "sntrys_" + RANDOM, "NRAK-" + RANDOM),
    *("lin_api_" + RANDOM, "AGE-SECRET-KEY-1" + RANDOM.upper(), "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9." + RANDOM),
    "eyJhbGciOiJkaXIifQ.." + RANDOM + "." + RANDOM + "." + RANDOM,
]
"""Keys that tell their make."""
BLOCKS = [
    f"-----BEGIN {kind}-----\n{RANDOM}\n-----END {kind}-----"
    for kind in (
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    )
] + [
    f"-----BEGIN EC PRIVATE KEY-----\\n{RANDOM}\\n-----END EC PRIVATE KEY-----\\n",
    f"-----BEGIN DSA PRIVATE KEY-----\n{RANDOM}",
    f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{RANDOM}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    f"-----BEGIN OpenVPN Static key V1-----\n{RANDOM}\n-----END OpenVPN Static key V1-----",
    f"PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\n{RANDOM}\nPrivate-MAC: {HEX}",
]
"""Private keys."""

HARMLESS = [
    text.replace("\\n", "\n")
    for text in textwrap.dedent(r"""
    | name | token_count |\n|------|-------------|\n| ada  | 3 |
    id,name,max_tokens\n1,ada,20
    import token, lexer\nimport os, sys
    def login(user, password):\n    return check(user, 1)
    user, password\nare required
    enter your password\nthen, later, go on
    name: str | None, password: str | None
    | password_length | 8 |
    NAME  AGE\nada   36\ntokenizer  3
    <tr><th>user</th><th>age</th></tr><tr><td>ada</td><td>36</td></tr>
    the password is wrong
    the password policy is 12 characters
    password too short
    missing 1 required positional argument: 'password'
    login() got an unexpected keyword argument 'token'
    no such column: users.password
    unknown fields: ['password', 'email', 'name']
    password must have 12 characters, one digit and one letter
    Unexpected token 'a1b2c3d4e5f6g7' in JSON at position 3
    the token has expired
    error code 4711 of the login code path
    status code 200, verification code follows
    card 4 of 52 was dealt
    the cards 12 and 14 are gone
    GET //cdn.example/a.js:3 by @ada
    zip -r a.zip folder
    http GET api.example:8080/a -v
    openssl version 3.0.13
    no session for order 1234567890123456
    API key is missing
    division by zero
    tokenizer=fast max_tokens=5 a passenger: ada
    max_tokens=4096, temperature=0.2
    max_new_tokens: 20, num_beams: 4
    next_token=17 page_token=18 pad_token_id=0
    {'prompt_tokens': 12, 'completion_tokens': 7, 'total_tokens': 19}
    {'special_tokens': ['<s>', '</s>'], 'eos_token': '</s>', 'token_id': 3}
    Unexpected token: } at line 3
    Unexpected token '<', "<!DOCTYPE" is not valid JSON
    5 sessions, training_session: 3
    https://host:80/a@b
    https://host.example:8080/path?page=3&sort=name#top
    http://localhost:5432,localhost:5433/x@y
    https://medium.example/@ada/post-17
    git@github.com:a/b.git
    ssh://git@github.com/a/b.git
    https://ada@host.example/x
    https://docs.example/webhooks/guide
    https://shop.example/items?code=404
    https://shop.example/items?key=name
    mailto:ada@example.org
    key=value, other=thing
    sort_key: name, primary_key: id, foreign_key: user_id
    KeyError: 'name'
    monkey: 3, keyboard: us, keyword: x, turkey: 4
    public_key=ssh-rsa AAAAB3NzaC1yc2E
    -----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----
    -----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----
    password=None user=ada
    {'password': None, 'token': '', 'auth': False}
    has_password=True is_secret: no
    def login(user: str, password: str) -> bool
    token: Optional[str], n: int
    basic authentication is not supported
    Basic understanding of things
    the bearer of this letter
    Bearer token is missing
    Bearer authentication failed
    a bearer format
    ada.authored_by(bob), authority=root, author: ada
    cookiecutter template: x
    passenger=ada compass: north passport: 3 bypass=yes
    secretary: ada, secretariat=Bonn
    opinion: good, spin=3, pinned=True, shipping: fast
    function_signature=(a, b) call_signature: f(x)
    first_pass=3, second_pass=4, boarding_pass: B12
    gpio_pin=17
    password_length=12 password_min_length: 8 password_policy: strict
    token_type=bearer-like token_count: 3 token_usage=7
    auth_method: none, auth_type=basic
    1 validation error for User\nage\n  Input should be a valid integer [type=int_parsing, input_value='twelve', input_type=str]
    DETAIL:  Key (email)=(ada@example.org) already exists.
    (1062, "Duplicate entry 'ada' for key 'users.name'")
    INSERT INTO users (name, age) VALUES ('ada', 36)
    near <user name="ada" age="36"/>
    near <user><name>ada</name></user>
    {"name": "age", "value": "36"}
    ('Accept', 'text/csv')
    ['--host', 'db1', '--port', '5432']
    deploy --host db1 --dry-run
    deploy --max-tokens 500 --tokenizer fast
    --no-password --verbose
    curl -u https://x.example
    -p 8080:80 nginx
    docker run -p 8080:80 nginx
    mysql is down since 3 pm
    ls -la /home/ada
    192.168.0.1:5432
    12:30:45.123 worker 3 started
    2024-01-01T00:00:00Z
    sk-learn is no package
    hf_hub is down
    npm_config is missing
    xoxo from ada
    SG.1 is no city
    AKIA is a prefix
    eyJ is how a token begins
    glpat- is a prefix
    ghp_short
    the key-value store
    a commit 9101106b3ddd8b9dffba1e18edf6f835e9b609cb
    a digest sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    uuid 123e4567-e89b-12d3-a456-426614174000
    File "/app/token/parse.py", line 3, in tokenize
    module 'secrets' has no attribute 'x'
    No module named 'auth'
    <auth.Login object at 0x7f> is not callable
    Traceback (most recent call last):\n  File "login.py", line 3, in check_password\n    raise ValueError
    expected 3 tokens, got 5
    the session has expired
    you are not authorized
    invalid cookie
    cookie and token are both missing
    sid is not set
    no pin for this card
    signature does not match
    connection string is empty
    tokens per second: 31
    tokens_per_second=31.5
    authorized_at: 2024, authorization is needed
    3 of 5 passed, 2 failed
    passes: 3, passed: 5
    price=3.5, item='tea', count=2
    a -> b, c => d
    x == y, x != y, password != other
    C:\Users\ada\token.txt
    s3://bucket/key/part-0001
    100% of the secrets were rotated
    """)
    .strip()
    .splitlines()
]
"""Texts without a secret. None may change."""


def filled(text, secret):
    """Return a text with a secret in its place."""
    return secret.join(part.replace("{{", "{").replace("}}", "}") for part in text.split("{}"))
