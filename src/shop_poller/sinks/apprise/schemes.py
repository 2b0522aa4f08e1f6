"""The schemes of the services of Apprise 2.3. To ask Apprise for them takes 50 MB and half a second."""

SCHEMES = frozenset({
    "46elks", "acs", "amqp", "amqps", "apprise", "apprises", "aprs", "atalk",
    "bale",  # codespell:ignore bale
    "awswhatsapp", "azure", "bark", "barks", "betterstack", "blink1", "bluesky",
    "brevo", "bsky", "bulksms", "bulkvs", "burstsms", "chanify", "clickatell",
    "clicksend", "cliq", "cm", "d7sms", "dapnet", "dbus", "deltachat", "deltachats",
    "dingtalk", "discord", "dot", "eight00com", "elks", "emby", "embys", "enigma2",
    "enigma2s", "evolution", "evolutions", "exotel", "fcm", "feishu", "firehydrant",
    "flock", "flowtriq", "flowtriqs", "fluxer", "fluxers", "form", "forms",
    "freemobile", "gchat", "gio", "github", "glib", "gnome", "goalert", "goalerts",
    "gorush", "gorushs", "gotify", "gotifys", "groundmail", "groupme", "growl",
    "guilded", "gupshup", "hassio", "hassios", "httpsms", "humhub", "humhubs", "ifttt",
    "ilert", "incidentio", "infobip", "instagram", "irc", "ircs", "jellyfin",
    "jellyfins", "jira", "join", "json", "jsons", "kakao", "kakaotalk", "kaleyra",
    "kavenegar", "kde", "klr", "kodi", "kodis", "kook", "kudosity", "kumulos",
    "lametric", "lametrics", "lark", "lauther", "lfg", "line", "macosx", "mailersend",
    "mailgun", "mailto", "mailtos", "mastodon", "mastodons", "matrix", "matrixs",
    "misskey", "misskeys", "mmost", "mmosts", "mobilemessage", "mobilemsg", "mqtt",
    "mqtts", "msg91", "msgbird", "ncloud", "nclouds", "nctalk", "nctalks", "nexmo",
    "nostr", "notica", "noticas", "notifiarr", "notifico", "notificos", "notifyapp",
    "notifyre", "ntfy", "ntfys", "o365", "octopush", "onebot", "onebots", "onesignal",
    "opsgenie", "opsimate", "opsimates", "pagerduty", "pagertree", "parsep", "parseps",
    "pbul", "pinglet", "pinglets", "pingram", "pjet", "pjets", "plivo", "postmark",
    "pover", "prowl", "psafer", "psafers", "push", "pushdeer", "pushdeers", "pushed",
    "pushme", "pushplus", "pushward", "pushy", "qq", "qt", "reddit", "resend", "revolt",
    "ringc", "rocket", "rockets", "rsyslog", "ryver", "schan", "sendgrid", "sendpulse",
    "serwersms", "ses", "session", "sessions", "seven", "sfr", "signal", "signalgrid",
    "signals", "signl4", "simplepush", "sinch", "slack", "smpp", "smpps", "smsc",
    "smseagle", "smseagles", "smsmanager", "smsmgr", "smstunnel", "smtp2go", "sns",
    "sogs", "sparkpost", "spike", "splunk", "spugpush", "spush", "squadcast",
    "stackfield", "strmlabs", "synology", "synologys", "syslog", "telesign", "telnyx",
    "tgram", "threema", "toot", "toots", "trigv", "trigvs", "tweet", "twilio", "twist",
    "twitter", "vapid", "viber", "victorops", "voipms", "vonage", "webex", "wechat",
    "wecom", "wecombot", "whapi", "whatsapp", "windows", "workflow", "workflows",
    "wpush", "wxpusher", "wxteams", "x", "xbmc", "xbmcs", "xmatters", "xml", "xmls",
    "xmpp", "xmpps", "youlmk", "zalo", "zcliq", "zohocliq", "zoom", "zulip",
})  # fmt: skip

OWN_PARAMETERS = {
    "bark": frozenset({"level"}),
    "barks": frozenset({"level"}),
    "firehydrant": frozenset({"level"}),
    "notifiarr": frozenset({"event"}),
    "pushward": frozenset({"level"}),
}
"""By scheme, the parameters of services that are spelled like our options."""
