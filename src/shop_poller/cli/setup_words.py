"""The texts of `setup` in Russian and English; each is one line."""

from collections.abc import Mapping

from shop_poller.core.messages import Locale

RU: Mapping[str, str] = {
    "title": "Настройка shop-poller. До последнего шага ничего не записывается; Ctrl-C отменяет всё.",
    "other_language": "In English: {program} setup --locale en",
    "yes_no": "[Д/н]",
    "no_yes": "[д/Н]",
    "not_yes_or_no": "Ответьте «д» (да) или «н» (нет).",
    "not_a_number": "Введите номер из списка, от 0 до {most}.",
    "empty": "Пустой ответ. Введите значение; отменить настройку — Ctrl-C.",
    "kept": "Enter — оставить прежнее значение из .env.",
    "hidden": "Ввод не показывается: вставьте и нажмите Enter.",
    "received": "Получено знаков: {length}.",
    "step_shop": "Шаг 1 из 3. Магазин",
    "ask_address": "Адрес магазина, как в браузере (например, https://shop.example)",
    "address_scheme": "Адрес должен начинаться с https://. Введите, например, {better}",
    "address_http": "По http ключи увидит любой на пути к магазину. Введите адрес с https, например {better}",
    "address_login": "В адресе есть имя или пароль. Введите адрес без них: ключи спросим отдельно.",
    "address_blanks": "В адресе пробел или невидимый знак. Скопируйте адрес ещё раз из строки браузера.",
    "address_form": "Это не похоже на адрес сайта. Введите его так: https://shop.example",
    "address_is_key": "Это ключ или токен, а не адрес. Введите адрес магазина: https://shop.example",
    "address_moved": "Магазин переадресует на {to}. Взять этот адрес?",
    "site_trying": "Проверяю, отвечает ли сайт…",
    "site_ok": "Сайт отвечает.",
    "site_failed": "Сайт не отвечает: {cause}. Проверьте адрес и интернет на этом компьютере. ({detail})",
    "keys_how": "Нужен ключ API с правом «Чтение». В админке магазина откройте WooCommerce → Настройки →"
    " Дополнительно → REST API и нажмите «Добавить ключ».",
    "keys_page": "Та же страница по ссылке: {link}",
    "keys_both": "Создав ключ, магазин один раз покажет его (Consumer key, ck_…) и секрет (Consumer secret,"
    " cs_…). Не закрывайте страницу.",
    "ask_public": "Открыт ли этот компьютер из интернета по https (свой домен и прокси)? Тогда магазин"
    " передаст ключи сам",
    "ask_callback": "Внешний адрес https, который прокси передаёт на http://{listen}",
    "callback_https": "Нужен адрес вида https://poller.example: магазин передаёт ключи только по https.",
    "callback_port": "WordPress отправляет запросы только на порты 443, 80 и 8080. Введите адрес с таким"
    " портом.",
    "link_open": "Откройте в браузере, где вы вошли в админку, и нажмите «Одобрить»:",
    "literal": "{text}",
    "link_wait": "Жду ключи от магазина, до {minutes} мин",
    "link_ok": "Магазин передал ключи.",
    "link_late": "Ключи не пришли. Проверьте, что {base} ведёт на http://{listen}. Введите ключи сами.",
    "link_listen": "Порт {listen} занят или закрыт: остановите службу или введите ключи сами. ({detail})",
    "link_page": "Ключи переданы. Вернитесь в терминал.",
    "ask_key": "Ключ (ck_…)",
    "ask_secret": "Секрет (cs_…)",
    "key_blanks": "Внутри пробел или перенос строки. Скопируйте значение ещё раз, кнопкой «Копировать».",
    "pasted_twice": "Значение вставлено дважды. Вставьте его один раз.",
    "key_both": "Ключ и секрет вставлены вместе. Вводите их по одному.",
    "key_other": "Значение начинается с {given}, а здесь нужно то, что начинается с {needed}. Скопируйте"
    " второе.",
    "key_form": "Нужно значение, которое начинается с {needed}; получено знаков: {length}. Скопируйте его"
    " целиком.",
    "shop_trying": "Проверяю ключи в магазине…",
    "shop_ok": "Магазин принял ключи и показывает заказы (способ опроса: {dialect}).",
    "shop_keys": "Магазин не принял ключи. Нужны оба значения одного ключа, с правом «Чтение»; его"
    " владелец должен"
    " видеть заказы. ({detail})",
    "shop_failed": "Магазин: {cause}. Проверьте адрес, затем введите данные ещё раз. ({detail})",
    "step_chat": "Шаг 2 из 3. Telegram",
    "ask_telegram": "Присылать уведомления в Telegram?",
    "no_apprise": "Для Telegram нужна библиотека Apprise. Установите её и запустите настройку ещё раз:"
    " {command}",
    "bot_1": "1. Откройте в Telegram чат с @BotFather: https://t.me/BotFather",
    "bot_2": "2. Отправьте ему /newbot. Придумайте имя бота и его адрес, который кончается на bot.",
    "bot_3": "3. Скопируйте токен из ответа. Он похож на 123456789:AAF…",
    "ask_token": "Токен бота",
    "token_blanks": "В токене пробел или перенос строки. Скопируйте только токен, без слов вокруг.",
    "token_form": "Это не токен. Он состоит из числа, двоеточия и 35 знаков: 123456789:AAF…",
    "token_trying": "Проверяю токен…",
    "bot_found": "Бот найден: @{name}",
    "bot_token": "Telegram не знает такого токена. Скопируйте его ещё раз; новый даст /token в @BotFather.",
    "bot_unreachable": "Нет связи с api.telegram.org. Если Telegram закрыт, задайте прокси в HTTPS_PROXY."
    " ({detail})",
    "bot_webhook": "У этого бота есть вебхук: его сообщения получает другая программа. Создайте нового"
    " бота (/newbot)"
    " и введите его токен.",
    "bot_reader": "Сообщения этого бота уже читает другая программа. Остановите её или создайте нового"
    " бота (/newbot).",
    "bot_busy": "Telegram просит подождать: слишком много запросов. Подождите минуту. ({detail})",
    "bot_odd": "Неожиданный ответ вместо Telegram. Проверьте интернет и прокси. ({detail})",
    "write_private": "Теперь напишите боту: откройте https://t.me/{name} и нажмите «Запустить» (/start).",
    "write_group": "Для группы или канала добавьте туда бота (в канал — администратором) и отправьте там"
    " /start@{name}.",
    "chat_wait": "Жду сообщение",
    "chat_none": "Сообщений боту пока нет.",
    "ask_again": "Проверить ещё раз?",
    "chat_one": "Найден {chat}. Отправлять уведомления туда?",
    "chat_many": "Боту писали из нескольких чатов:",
    "chat_line": "  {number}. {chat}",
    "chat_zero": "  0. другой чат: сначала напишу оттуда",
    "ask_number": "Номер",
    "chat_write": "Напишите боту из нужного чата и нажмите Enter",
    "private": "личный чат: {title}",
    "group": "группа «{title}»",
    "channel": "канал «{title}»",
    "test_trying": "Отправляю проверочное сообщение…",
    "test_ok": "Отправлено. Посмотрите в Telegram.",
    "test_failed": "Сообщение не ушло: проверьте, что бот остался в чате и может там писать. ({detail})",
    "step_write": "Шаг 3 из 3. Запись",
    "written": "Настройки записаны: {path}. Читать файл можете только вы.",
    "backup": "Прежний файл сохранён: {path}",
    "console_only": "Получатель не выбран: уведомления выводятся в терминал.",
    "overridden": "{name}: действует другое значение, из окружения или файла {name}_FILE. Уберите его.",
    "still_wrong": "Осталось исправить: {problem}",
    "next_check": "Проверить всё: {program} check",
    "next_run": "Запустить: {program} run",
    "stopped": "Настройка прервана. Ничего не изменено.",
    "stopped_late": "Прервано, но настройки уже записаны: {path}",
    "no_terminal": "setup: нужен терминал, чтобы задать вопросы; запустите в нём или напишите .env сами"
    " (README.ru.md)",
    "cannot_write": "{path}: записать нельзя: {detail}. Запустите команду в каталоге, где это можно.",
    "cannot_read": "{path}: прочитать нельзя: {detail}. Исправьте или переименуйте этот файл.",
}

EN: Mapping[str, str] = {
    "title": "Set-up of shop-poller. Nothing is written before the last step; Ctrl-C cancels everything.",
    "other_language": "По-русски: {program} setup --locale ru",
    "yes_no": "[Y/n]",
    "no_yes": "[y/N]",
    "not_yes_or_no": "Answer y (yes) or n (no).",
    "not_a_number": "Enter a number from the list, 0 to {most}.",
    "empty": "The answer is empty. Enter a value; Ctrl-C cancels the set-up.",
    "kept": "Enter keeps the present value of .env.",
    "hidden": "Input is not shown: paste it and press Enter.",
    "received": "Received {length} characters.",
    "step_shop": "Step 1 of 3. The shop",
    "ask_address": "Address of the shop, as in the browser (for example https://shop.example)",
    "address_scheme": "The address must begin with https://. Enter for example {better}",
    "address_http": "Over http, everyone on the way can read the keys. Enter the https address, for"
    " example {better}",
    "address_login": "The address contains a user or a password. Enter it without them: keys are asked for"
    " later.",
    "address_blanks": "The address contains a blank or an invisible character. Copy it once more from the"
    " browser.",
    "address_form": "This does not look like the address of a site. Enter it like this: https://shop.example",
    "address_is_key": "This is a key or a token, not an address. Enter the shop's address:"
    " https://shop.example",
    "address_moved": "The shop redirects to {to}. Use this address?",
    "site_trying": "Checking whether the site answers…",
    "site_ok": "The site answers.",
    "site_failed": "The site does not answer: {cause}. Check the address and the network of this machine."
    " ({detail})",
    "keys_how": "You need an API key with the permission Read. In the shop's admin area, open WooCommerce →"
    " Settings → Advanced → REST API and press Add key.",
    "keys_page": "The same page as a link: {link}",
    "keys_both": "The shop then shows, once, the key (Consumer key, ck_…) and the secret (Consumer secret,"
    " cs_…). Keep that page open.",
    "ask_public": "Can this machine be reached from the internet by https (own domain and proxy)? Then the"
    " shop"
    " can send the keys itself",
    "ask_callback": "The public https address that your proxy forwards to http://{listen}",
    "callback_https": "Enter an address like https://poller.example: the shop sends keys only by https.",
    "callback_port": "WordPress sends requests only to the ports 443, 80 and 8080. Enter an address with"
    " such a port.",
    "link_open": "Open this in the browser in which you are signed in to the admin area, and press Approve:",
    "literal": "{text}",
    "link_wait": "Waiting for the keys from the shop, up to {minutes} min",
    "link_ok": "The shop sent the keys.",
    "link_late": "No keys arrived. Check that {base} leads to http://{listen}. Enter the keys yourself.",
    "link_listen": "Port {listen} is in use or closed: stop the service, or enter the keys yourself."
    " ({detail})",
    "link_page": "The keys were sent. Return to the terminal.",
    "ask_key": "Consumer key (ck_…)",
    "ask_secret": "Consumer secret (cs_…)",
    "key_blanks": "It contains a blank or a line break. Copy the value once more, with the Copy button.",
    "pasted_twice": "The value was pasted twice. Paste it once.",
    "key_both": "Key and secret were pasted together. Enter them one by one.",
    "key_other": "The value begins with {given}, but this one has to begin with {needed}. Copy the other"
    " one.",
    "key_form": "The value has to begin with {needed}; received {length} characters. Copy all of it.",
    "shop_trying": "Trying the keys in the shop…",
    "shop_ok": "The shop accepts the keys and shows its orders (dialect: {dialect}).",
    "shop_keys": "The shop refuses the keys. Enter both values of one key that may Read; its owner must be"
    " allowed to"
    " see orders. ({detail})",
    "shop_failed": "The shop: {cause}. Check the address, then enter it again. ({detail})",
    "step_chat": "Step 2 of 3. Telegram",
    "ask_telegram": "Send notifications to Telegram?",
    "no_apprise": "Telegram needs the library Apprise. Install it, and run the set-up again: {command}",
    "bot_1": "1. In Telegram, open the chat with @BotFather: https://t.me/BotFather",
    "bot_2": "2. Send it /newbot. Choose a name for the bot and its address, which ends in bot.",
    "bot_3": "3. Copy the token from the answer. It looks like 123456789:AAF…",
    "ask_token": "Token of the bot",
    "token_blanks": "The token contains a blank or a line break. Copy only the token, without the words"
    " around it.",
    "token_form": "This is no token. A token is a number, a colon and 35 characters: 123456789:AAF…",
    "token_trying": "Trying the token…",
    "bot_found": "Found the bot: @{name}",
    "bot_token": "Telegram knows no such token. Copy it once more; /token in @BotFather makes a new one.",
    "bot_unreachable": "No connection to api.telegram.org. If your network blocks it, set a proxy in"
    " HTTPS_PROXY."
    " ({detail})",
    "bot_webhook": "This bot has a webhook: another program receives its messages. Make a new bot"
    " (/newbot), and"
    " enter its token.",
    "bot_reader": "Another program already reads the messages of this bot. Stop it, or make a new bot"
    " (/newbot).",
    "bot_busy": "Telegram asks to wait: too many requests. Wait a minute. ({detail})",
    "bot_odd": "Something other than Telegram answered. Check your network and proxy. ({detail})",
    "write_private": "Now write to the bot: open https://t.me/{name} and press Start.",
    "write_group": "For a group or channel, add the bot there (to a channel as administrator), and send"
    " /start@{name} there.",
    "chat_wait": "Waiting for a message",
    "chat_none": "There is no message to the bot yet.",
    "ask_again": "Check again?",
    "chat_one": "Found the {chat}. Send notifications there?",
    "chat_many": "Several chats wrote to the bot:",
    "chat_line": "  {number}. {chat}",
    "chat_zero": "  0. another chat: I will write from there first",
    "ask_number": "Number",
    "chat_write": "Write to the bot from that chat, and press Enter",
    "private": "private chat: {title}",
    "group": "group “{title}”",
    "channel": "channel “{title}”",
    "test_trying": "Sending a test message…",
    "test_ok": "It was sent. Look into Telegram.",
    "test_failed": "It was not sent: check that the bot is still in the chat and may write there. ({detail})",
    "step_write": "Step 3 of 3. Saving",
    "written": "The settings are in {path}. Only you may read that file.",
    "backup": "The old file is kept as {path}",
    "console_only": "No receiver is set: notifications go to the terminal.",
    "overridden": "{name}: another value is in effect, from the environment or the file in {name}_FILE."
    " Remove it.",
    "still_wrong": "Still to correct: {problem}",
    "next_check": "Check everything: {program} check",
    "next_run": "Start it: {program} run",
    "stopped": "The set-up was cancelled. Nothing was changed.",
    "stopped_late": "Cancelled, but the settings are already in {path}",
    "no_terminal": "setup: needs a terminal to ask questions; run it in one, or write .env by hand"
    " (README.md)",
    "cannot_write": "{path}: cannot be written: {detail}. Run the command in a directory where it can.",
    "cannot_read": "{path}: cannot be read: {detail}. Correct or rename this file.",
}

TEXTS: Mapping[Locale, Mapping[str, str]] = {"ru": RU, "en": EN}
