"""Words that mean the same to an attacker, in many languages: the classifier reads them as one concept.

A word that ends in ``*`` stands for all words that begin so. Everything is written as the normaliser
leaves it: lower case, Latin letters without marks.
"""

# ruff: noqa: RUF001 - letters of other scripts are meant.

from typing import Final

#: For attacks: what is overridden, by whom, into what, and what is asked for.
ATTACK: Final[dict[str, str]] = {
    "ignore": """
        ignore ignores ignoring ignored disregard* forget forgetting neglect discard* override* overriding
        overrule dismiss cancel erase void nullif* supersede* abandon bypass* circumvent* skip unlearn
        drop scrap reset ignoriere ignorier* vergiss vergesst missacht* verwirf ubergeh* umgeh* streiche
        ignorez oublie* oubliez neglige* contourn* annule* ignora ignore* ignorar olvida* olvide*
        descarta* desestima* omite omitir anula* salta dimentica* scarta* trascura* tralascia* aggira*
        esqueca esquece* desconsidere* desconsidera* descarte* despreze* negeer* vergeet verwerp omzeil*
        sla zignoruj* ignoruj* zapomnij* pomin* odrzuc* ignoruj obejdz ignoruj* zapomen* prehlize* vynech*
        игнориру* проигнориру* забудь* забыть отбрось* пренебре* отмени* обойди не_учитыв* iгнору* ігнору*
        знехту* забудьте yoksay gormezden unut unutun dikkate_alma gecersiz ignorera glom bortse ignorer
        glem se_bort unohda ohita abaikan lupakan acuhkan bo_qua quen lo_di phot_lo 忽略 忽视 无视 忘记
        忘掉 不要理会 不理会 绕过 抛弃 忽視 無視 忘れ 忘却 無効 破棄 무시 잊어 잊고 무효 تجاهل تجاهلي
        تجاهلوا انس انسى انسي اهمل تخط अनदेखा भूल भुला नजरअंदाज नज़रअंदाज़ उपेक्षा αγνοησε αγνοηστε ξεχασε
        ignora* ignorati uita התעלם התעלמי שכח
    """,
    "prior": """
        previous previously prior above earlier preceding former past before foregoing existing original
        initial given vorherig* bisherig* obig* vorangeg* fruher* vorig* oben ursprunglich* zuvor
        vorstehend* precedent* precedente* anterieur* ci_dessus dessus initiale* initiales originale*
        avant anterior* anteriores previa* previas previo* previos arriba original* antes inicial*
        precedenti precedente sopra iniziali prima acima previas iniciais voorgaande vorige eerdere
        bovenstaande voorafgaande poprzedni* wczesniej* powyzsz* dotychczas* predchoz* drivejs* vyse
        предыдущ* прежн* ранее ранних выше предшеств* попередн* вище раніше исходн* onceki* yukaridaki*
        onceden tidigare foregaende ovan tidligere aiemmat edelliset sebelumnya terdahulu diatas truoc
        tren 之前 以前 先前 上述 以上 上面 前面 前述 これまで 上記 今まで 이전 위의 앞선 지금까지 앞의
        السابقة السابق السابقه أعلاه اعلاه पिछले पिछली पूर्व पहले उपरोक्त ऊपर προηγουμενες προηγουμενα
        anterioare הקודמות
    """,
    "all": """
        all any every everything whatever entire each alle alles allen samtliche* jede* tout toute toutes
        tous todo todas todos toda tutte tutti tutto tudo wszystk* vsechn* все всё всех всю усі всі tum
        butun hepsini alla alt kaikki semua segala tat moi 所有 一切 全部 任何 すべて 全て 全部 모든 모두
        전부 كل جميع सभी सब सारे ολες toate כל
    """,
    "rule": """
        instruction instructions instructs rule rules guideline* directive* directions commands command
        order orders programming training constraints constraint policies policy protocol protocols
        prompts parameters anweisung* regel* regeln anleitung* vorgabe* richtlinie* befehl* instruktion*
        consigne* regle* directive* ordres instruccion* regla reglas indicacion* directric* ordenes
        istruzion* regole direttiv* ordini instruc* regra* diretriz* orienta* ordens instructies regels
        richtlijnen opdrachten aanwijzingen instrukcj* polecen* zasad* regul* wytyczn* pokyn* pravid*
        instrukc* инструкци* правил* указани* команд* установк* iнструкц* інструкц* вказівк* talimat*
        kural* yonerge* komut* instruktion* instruks* regler ohjeet saannot instruksi* aturan perintah
        petunjuk arahan huong_dan chi_dan quy_tac chi_thi lenh 指令 指示 规则 规定 命令 提示 说明 設定
        设定 ルール 規則 命令 指図 지시 규칙 명령 지침 التعليمات تعليمات القواعد الأوامر الاوامر التوجيهات
        निर्देश* नियम* आदेश* οδηγιες κανονες instructiuni* reguli ההוראות הכללים
    """,
    "prompt": """
        prompt systemprompt preprompt preamble system_prompt system_message systemnachricht prompts
        systempromten prompta promptu invite promptun промпт* подсказк* 提示词 提示詞 系统提示 系統提示
        プロンプト 프롬프트 موجه प्रॉम्प्ट
    """,
    "reveal": """
        reveal* show display expose* disclose* divulge* leak* dump share unveil recite repeat* print
        output echo list tell regurgitate verbatim quote copy paste export spill zeig* verrat* nenne
        wiederhol* offenbar* gib drucke enthull* affiche* revele* montre* repete* divulgue* donne dis_moi
        muestra* revela* repite* imprime* ensena* dime divulga* comparte mostra* rivela* ripeti stampa
        dimmi svela* mostre* revele* repita diga exiba imprima toon onthul* herhaal geef druk pokaz*
        ujawn* powtorz* wypisz* zdradz* podaj ukaz* odhal* vypis* zopakuj* покажи* раскро* повтори*
        выведи* назови напечатай сообщи покажіть розкрий goster* acikla* yazdir* tekrarla* soyle visa
        avsloja upprepa vis avslor nayta paljasta tampilkan ungkap* tunjukkan bocorkan cetak ulangi
        tiet_lo hien_thi cho_toi lap_lai in_ra 显示 显出 透露 泄露 输出 打印 告诉 重复 公开 展示 表示 見せ
        教え 出力 公開 明かし 繰り返 보여 공개 출력 알려 반복 말해 اظهر أظهر اكشف اعرض كرر اطبع أخبرني
        दिखा* बता* प्रकट दोहरा* छाप* δειξε αποκαλυψε arata dezvaluie הצג חשוף
    """,
    "hidden": """
        hidden secret secrets confidential private internal concealed underlying covert classified geheim*
        versteckt* vertraulich* intern* secrete* cache* cachee* confidentiel* secret* secreta* ocult*
        oculta* confidencial* segret* nascost* riservat* secreto* escondid* geheime verborgen taj* ukryt*
        skryt* poufn* секрет* скрыт* тайн* внутренн* прихован* gizli* hemlig* hemmelig* salai* rahasia
        tersembunyi bi_mat 隐藏 秘密 机密 内部 保密 隠され 内密 極秘 비밀 숨겨진 기밀 السري السرية المخفية
        سر गुप्त छिपे
    """,
    "password": """
        password passwords passcode passphrase credential* apikey api_key token tokens access_code pin
        login passwort kennwort zugangscode mot_de_passe contrasena clave parola_d_ordine senha wachtwoord
        hasl* heslo парол* ключ sifre* parola losenord passord salasana kata_sandi sandi mat_khau 密码
        口令 密钥 密碼 パスワード 合言葉 비밀번호 암호 كلمة_المرور كلمة_السر पासवर्ड κωδικος סיסמה
    """,
    "now": """
        now henceforth onwards onward hereafter forward starting nun jetzt ab_sofort fortan desormais
        maintenant dorenavant ahora adelante ora_in_poi adesso agora partir nu voortaan teraz odtad ted
        nyni теперь отныне сейчас відтепер artik simdi nu fran sekarang mulai bay_gio tu_gio 现在 从现在
        今后 今から これから 지금부터 이제 الآن الان अब τωρα acum
    """,
    "you": """
        you your yours yourself u ur youre dein* deine* deinen du dir dich ihr euch tu vous ton ta tes vos
        votre toi tus tuyo usted te sus tuo tua tue tuoi ti voce seu sua seus suas jij je jouw jestes
        twoj* twoje ty tvuj tvoje ты тебе твои твой тебя вы ваш* вам ти твої sen senin sana din ditt dina
        kamu anda kau ban cua_ban 你 您 你的 あなた 君 당신 너 너의 انت أنت لك आप आपको आपके तुम तुम्हें εσυ
        tau ata אתה
    """,
    "act": """
        act acting pretend* roleplay* role_play simulat* imagine become behave emulate* impersonat* embody
        assume transform persona character role immerse portray tu_so spiel* verhalt* simulier* rolle agis
        joue fais_comme imagine* incarne* role actua* finge* simula* imagina* comportate rol personaje
        agisci fingi comportati ruolo interpreta* aja finja atue imagine* papel gedraag speel doe_alsof
        udawaj zachowuj wciel predstir* chovej притвор* представь веди действуй сыграй роль вообрази удай
        davran rol gibi_davran agera lat_sas berpura* bertindak perankan dong_vai gia_vo hanh_dong 扮演
        假装 角色 充当 模拟 假裝 演じ ふりをし 振る舞 役割 성대모사 연기 행동 역할 척해 تصرف تظاهر دور
        अभिनय भूमिका नाटक προσποιησου
    """,
    "ai": """
        ai a_i chatgpt gpt gpt3 gpt4 gpt0 chatbot bot llm llms language_model model assistant claude
        gemini llama bard copilot grok mistral machine neural ki sprachmodell assistent assistant* ia
        modele modelo asistente assistente modello inteligencia искусствен* ии модель ассистент чатбот
        yapay asisten mo_hinh tro_ly 人工智能 助手 模型 语言模型 人工知能 アシスタント モデル 인공지능
        모델 비서 الذكاء_الاصطناعي نموذج मॉडल सहायक
    """,
    "free": """
        unrestricted unfilter* unfiltr* uncensor* unlimited unbound* unrestrain* unchained limitless freed
        liberated unshackle* unhinged amoral unethical jailbroken unmoderated no_limits unconstrain*
        untethered broken_free break_free shackle* chains uneingeschrankt* ungefiltert* unzensiert*
        sans_restriction* sans_limite* sans_filtre* non_censure sin_restriccion* sin_limite* sin_filtro*
        sin_censura senza_restrizion* senza_limiti senza_filtri senza_censura sem_restric* sem_limit*
        sem_filtro* sem_censura zonder_beperking* zonder_filter ongecensureerd* bez_ograniczen bez_cenzury
        bez_filtrow bez_omezeni без_ограничен* без_цензур* без_фильтр* без_обмежень sinirsiz sansursuz
        kisitlamasiz filtresiz utan_begransning* uten_begrensning* tanpa_batas* tanpa_filter tanpa_sensor
        khong_gioi_han khong_kiem_duyet 不受限制 没有限制 無限制 无限制 没有任何限制 制限なし 制限のない
        検閲なし 제한_없 제한없이 제한 بلا_قيود بدون_قيود प्रतिबंध बिना_किसी
    """,
    "limit": """
        restriction* limitation* limits filter* filters censor* ethic* moral* morals guardrail* safety
        safeguards safeguard policies guidelines content_policy boundaries warning* warnings disclaimer*
        caution legality compliance sicherheits* einschrankung* beschrankung* filtre* censure ethique
        restrictions limites limite etica etique moralidad restriccion* restrizion* restric* beperking*
        ograniczen* cenzur* ograniczeni* omezen* ограничен* цензур* фильтр* этик* моральн* обмежен*
        kisitlama* sansur* filtre* etik begransning* batasan sensor gioi_han 限制 过滤 审查 道德 伦理 制限
        検閲 倫理 フィルター 제한 검열 윤리 필터 قيود القيود رقابة प्रतिबंध* सीमा*
    """,
    "neg": """
        no not never without dont doesnt wont cannot cant none nothing neither isnt arent free nicht kein*
        nie ohne ne pas jamais sans aucun* sin ningun* nunca non senza nessun* nao sem nenhum* niet geen
        zonder nie bez nigdy zadn* не нет никогда без никак* жодн* olmadan asla hicbir inte utan ikke uten
        tidak tanpa jangan khong dung 不 没有 不要 无需 不得 ない なし 없이 않 لا بدون नहीं बिना मत
    """,
    "refuse": """
        refuse* refusal* decline* deny apolog* sorry unable reject* object* hesitat* complain* remind*
        lecture* ablehn* weiger* entschuldig* refuser refuses refusez desole rechaz* niegues rifiut*
        recus* recuse weiger* odmaw* odmit* отказ* извин* reddet* vagra* menolak tu_choi 拒绝 道歉 拒否
        断ら 거부 거절 ترفض رفض मना इनकार
    """,
    "must": """
        must always obey* comply strictly required never_break strictly immediately obliged mandatory
        need_to have_to fully unconditionally musst immer gehorch* befolge* dois toujours obeis* debes
        siempre obedec* devi sempre obbedisci deve sempre obedeca moet altijd gehoorzaam musisz zawsze
        vzdy musis должен всегда обязан слушай* повинуй* повинен завжди malisin her_zaman itaat maste
        alltid harus selalu patuhi phai luon 必须 一定 总是 服从 必ず 従っ 従い 従う 常に 반드시 항상 복종
        따르 يجب دائما أطع हमेशा अवश्य पालन
    """,
    "vendor": """
        openai openais anthropic microsoft google deepmind meta developers developer creators creator
        openai의 openaiの programmers engineers
    """,
    "persona": """
        dan stan dude aim jailbreak* jailbroken jail_break evil evilbot maximum anarchy devmode betterdan
        antigpt mongo tom alphabreak omega villain* unethical machiavel* do_anything_now anything_now
        opposite_mode god_mode godmode sudo superuser freegpt basedgpt chadgpt nsfw sigma alterego
        alter_ego unaligned rogue
    """,
    "mode": """
        mode modus modo mod modalita tryb rezim режим режиме developer_mode debug maintenance diagnostic*
        unlocked enabled activate* activated enable engage modus 模式 モード 모드 وضع मोड
    """,
    "new": """
        new following instead next updated revised latest real actual true neue* folgend* stattdessen
        nouvel* nouveau suivant* plutot nuev* siguiente* lugar nuov* seguent* invece nova* novo* seguint*
        nieuwe volgende nowe* nowych now_e nastepuj* zamiast nov* misto нов* следующ* вместо нові yeni*
        asagidaki yerine nya nye foljande baru berikut moi sau 新的 新 以下 改为 新しい 次の 代わりに
        새로운 다음 대신 جديدة الجديدة التالية नए नया निम्न* इसके_बजाय
    """,
    "say": """
        say answer* respond* reply write* return type speak state generate provide produce antworte* sag*
        schreib* reponds repondez ecris dis responde* escribe* di rispond* scrivi responda* escreva*
        antwoord schrijf zeg odpowi* napisz powiedz odpove* napis rekni ответ* скажи* напиши* отвечай*
        відповід* yaz cevap* yanit* svara skriv svar jawab* tulis* katakan tra_loi viet noi 回答 说 回复
        答え 言っ 書い 返答 대답 답변 쓰 اكتب قل أجب जवाब लिख* कह* उत्तर
    """,
    "only": """
        only just simply solely exclusively nothing_but nur ausschliesslich seulement uniquement solo
        solamente unicamente soltanto apenas somente alleen enkel tylko jedynie pouze jen только лишь
        тільки sadece yalnizca endast bara kun bare hanya chi 只 仅 只能 だけ のみ 오직 만 فقط केवल सिर्फ
    """,
    "send": """
        send email* forward* transfer* exfiltrat* upload* submit post curl wget webhook http https url
        link fetch delete remove rm drop execute run download* install invoke call grant approve wire pay
        sende schick* losche envoie envoyez supprime envia* enviar borra elimina invia cancella envie
        apague stuur verwijder wyslij usun posli smaz отправ* удали* перешли* надішли gonder* sil skicka
        radera kirim hapus gui xoa 发送 转发 删除 上传 送信 転送 削除 보내 전송 삭제 أرسل ارسل احذف भेज*
        हटा*
    """,
    "data": """
        conversation history chat messages context data user users customer* account* credit card* bank
        address files file inbox contacts records database environment env chatverlauf daten konversation
        donnees datos dati dados gegevens dane данн* переписк* veri* 数据 对话 上下文 記録 会話 データ
        대화 데이터 بيانات المحادثة डेटा बातचीत
    """,
    "system": """
        system sysadmin admin administrator root developer operator override system_override assistant
        user human inst sys im_start im_end endoftext system系统 系统 管理员 システム 管理者 시스템 관리자
        النظام नियंत्रक सिस्टम система системн* администратор* systeme sistema systems systeem systemu
        sistem he_thong
    """,
    "urgent": """
        important attention urgent warning stop notice alert critical note wichtig achtung importante
        attention atencion attenzione atencao belangrijk wazne uwaga dulezite важно внимание onemli dikkat
        viktigt penting quan_trong 重要 注意 紧急 緊急 重要な 중요 주의 긴급 مهم هام महत्वपूर्ण ध्यान
    """,
    "harm": """
        illegal harmful immoral unethical dangerous offensive explicit racist sexist bomb meth malware
        weapon* drugs kill hack* steal* ransomware explosive* violen* hateful inappropriate controversial
        criminal crime* illegal* gefahrlich* illegale* dangereu* ilegal* peligros* illegali pericolos*
        perigos* nielegaln* незаконн* опасн* yasadisi ilegal bat_hop_phap 非法 违法 危险 炸弹 違法 危険
        爆弾 불법 위험 폭탄 غير_قانوني خطير अवैध खतरनाक
    """,
    "story": """
        hypothetical* fictional fiction story stories scenario novel movie film scene screenplay game
        dream grandma grandmother professor researcher educational purposes imaginary universe alternate
        parallel world play
    """,
    "talk": """
        injection injections attack* detect* explain* example* definition understand* prevent* defend*
        defence defense research paper article vulnerab* mitigat* threat* documentation security phishing
        what how why does mean
    """,
    "end": """
        end begin start beginning ending eof stop terminated complete completed done finished task tasks
        aufgabe tache tarea compito tarefa taak zadanie задач* gorev uppgift tugas nhiem_vu 任务 結束 结束
        終了 タスク 작업 종료 انتهى مهمة कार्य
    """,
    "encode": """
        base64 base32 rot13 hex hexadecimal morse binary ascii caesar cipher encode* decode* reverse*
        backwards leetspeak translate* spell emoji pig_latin verbatim word_for_word json yaml markdown
        code_block codeblock
    """,
    "begin": """
        sure absolutely certainly of_course begin_with start_with starting_with beginning_with prefix
    """,
    "code": """
        import def class function const var return os system subprocess eval exec print console script
        javascript python shell bash terminal linux sql select insert update
    """,
}

#: For moderation: what a text speaks of, how, and about whom.
MODERATION: Final[dict[str, str]] = {
    "sexual_act": """
        sex sexual* fuck fucks fucked fucking fucker intercourse blowjob* handjob* orgasm* cum cumming
        cums cumshot* creampie* anal oral masturbat* jerking jerk_off jerked ejaculat* penetrat* thrust*
        thrusting gangbang* threesome* foreplay fingering fingered licking licked sucking sucked suck
        sucks moan* moaned moaning grind* grinding stroking stroked undress* stripped strip striptease
        bondage bdsm spank* dominatrix fetish* kink* kinky rimming deepthroat* squirt* climax* seduc*
        aroused arousal horny sexting hookup hook_up make_love making_love making_out porn* pornograph*
        erotic* nsfw hentai smut lewd slutty sexo follar foda sexe baise* ficken sesso scopare секс трах*
        seks sikis 性交 做爱 セックス エッチ 섹스 جنس
    """,
    "sexual_body": """
        penis* cock cocks dick dicks vagina* pussy pussies clit* clitoris boob* boobs breast breasts tits
        titties nipple* ass asshole butt buttocks crotch groin erection erect testicle* balls cunt cunts
        shaft naked nude nudes nudity bare panties thong lingerie bra topless genital* thigh* thighs hips
        curves wet tight throbbing hard_on hardon bulge anus semen sperm dildo* vibrator*
    """,
    "sexual_soft": """
        kiss kissed kisses kissing lover lovers passion* intimate intimacy sensual* sexy hot bed bedroom
        lust* desire* tease teased teasing caress* flirt* virgin* pleasure* prostitut* escort* hooker*
        stripper* brothel* incest* stepmom stepdad stepsister stepbrother milf whore* slut* hoe hoes bitch
        bitches skank*
    """,
    "minor": """
        child children kid kids minor minors underage teen teens teenage* boy girl boys girls schoolgirl*
        schoolboy* loli shota lolita preteen* toddler* infant* daughter son niece nephew pedo* paedo*
        student pupil year_old young younger little
    """,
    "kill": """
        kill kills killed killing killer murder* slaughter* assassinat* execute executed execution
        massacre* genocid* exterminat* lynch* behead* decapitat* strangl* suffocat* stab stabbed stabbing
        shoot shooting shot gunned bomb bombs bombed bombing explode* explosion* blow_up burn_alive hang
        hanged hanging drown drowned poison poisoned poisoning die dies dead death deaths gas_chamber*
        holocaust toten umbringen matar asesinar tuer uccidere убить убей oldur 杀 殺 죽이 قتل मार
    """,
    "hurt": """
        beat beaten beating punch* kick kicked kicking hit slap slapped hurt hurts harm attack attacked
        attacks assault* torture* tortured rape raped raping rapist* abuse abused abusive maim* mutilat*
        whip whipped choke choked choking smash* crush* break_your destroy* violen* brutal* fight fighting
        bash bashed terroris* terror threat* kidnap* hostage* revenge punish*
    """,
    "gore": """
        blood bloody bleeding bled gore gory gut guts intestin* entrails skull* skulls brain brains flesh
        severed limb limbs corpse* corpses dismember* disembowel* eyeball* throat bone bones wound* wounds
        slice sliced slicing scream* screamed screams screaming agony carnage
    """,
    "weapon": """
        gun guns rifle* pistol* shotgun* firearm* ammo ammunition bullet* knife knives blade machete sword
        axe bomb* grenade* explosive* weapon* ied missile* ricin anthrax sarin nerve_agent silencer*
        detonator* molotov* napalm thermite pipe_bomb
    """,
    "suicide": """
        suicid* kill_myself killing_myself kill_yourself kys end_my end_it hang_myself overdos* self_harm
        selfharm cutting cut_myself cutting_myself hurt_myself hurting_myself razor* razorblade* wrists
        wrist slit noose want_to_die die_tonight unalive anorexi* bulimi* purge purging starve starving
        thinspo proana pro_ana depress* hopeless worthless burden pills jump_off no_reason live_anymore
        goodbye_note harm_myself myself suicidio selbstmord suicide самоубий* intihar 自杀 自殺 자살
        انتحار आत्महत्या
    """,
    "slur": """
        nigger* nigga niggas niglet* kike kikes spic spics wetback* chink* gook gooks beaner* coon coons
        faggot* fag fags fagg* dyke dykes tranny trannies retard* retarded raghead* towelhead* sandnigger*
        paki pakis gypsy gyppo* cracker crackers honky redneck* jigaboo* negro negroes sodomite* shemale*
        muzzie* muzzrat* mudslime* groid* nignog* darkie* zipperhead* camel_jockey porch_monkey
        white_trash feminazi* feminazis goyim zog untermensch* mongoloid* spastic* subhuman* abo abos
    """,
    "insult": """
        stupid idiot* moron* dumb dumbass loser* losers ugly fat trash garbage pathetic scum scumbag*
        filth filthy disgusting worthless useless clown* coward* liar liars lazy pig pigs dog dogs rat
        rats bastard* jerk jerks freak* freaks creep* creepy fool* fools ignorant imbecile* cuck* cucks
        simp simps incel* whiny crybaby dirtbag douche* douchebag* shithead* dickhead* asshat* prick
        pricks twat* wanker* hag bimbo* tramp nasty vile shut_up screw_you hate_you
    """,
    "profanity": """
        shit shits shitty bullshit damn goddamn hell fuck* fuckin fucken motherfuck* wtf ass_hole crap
        piss pissed bloody_hell bugger arse bollocks
    """,
    "race": """
        black blacks white whites asian asians african* africans latino* latina* hispanic* mexican*
        mexicans indian indians arab arabs chinese japanese korean* immigrant* immigrants migrant*
        migrants refugee* refugees foreigner* foreigners race races racial aryan* nonwhite* non_whites
        european* brown native natives aboriginal* roma ethnic* ghetto colored people_of
    """,
    "religion": """
        jew jews jewish muslim* muslims islam islamic christian* christians catholic* hindu* hindus sikh*
        atheist* mosque* synagogue* zionis* israel* quran koran allah prophet religion* religious
    """,
    "gender": """
        woman women female* females man men male males girl girls feminist* feminism wife wives mother
        mothers trans transgender* transsexual* gay gays lesbian* lesbians bisexual* homosexual* homo
        queer* lgbt* gender* misandr* misogyn* she her lady ladies chick chicks broad broads bitch* slut
        whore thot thots
    """,
    "ability": """
        disabled disabilit* autistic autism blind deaf cripple* crippled wheelchair down_syndrome
        mentally_ill mental elderly old_people handicap* schizo* deformed
    """,
    "contempt": """
        inferior superior vermin parasite* parasites invad* invasion* infest* cockroach* cockroaches
        savage* savages animal animals ape apes monkey* monkeys primitive* uncivili* plague cancer
        disease* degenerate* degenerates mongrel* breed breeding replace replacement pure purity supremacy
        supremac* nazi nazis hitler swastika* kkk heil reich fuhrer third_world criminals thugs thug
        rapists terrorists leeches welfare deport* go_back gas_them wipe_out get_rid not_human subhuman*
        ruin ruining ruined belong_in kitchen
    """,
    "all_of": """
        all every always never these those they them their those_people most typical naturally should
        deserve* deserves must only
    """,
    "hate_word": """
        hate hates hated hating despise* detest* loathe* disgust* can't_stand sick_of fed_up
    """,
    "threat": """
        i_will i'll going_to gonna we_will watch_your find_you coming_for you_will regret pay_for
    """,
    "target": """
        you your yourself u ur you're youre
    """,
    "self": """
        i i'm im me my myself mine
    """,
    "crime": """
        steal* stealing theft rob robbing robbery burglar* shoplift* fraud* fraudulent scam* scams
        scamming counterfeit* forg* forge fake launder* laundering embezzl* brib* bribery blackmail*
        extort* smuggl* traffic* trafficking hack hacking hacker* ddos malware ransomware virus viruses
        keylogger* phishing spyware trojan* exploit* exploits botnet* crack cracking identity_theft evade
        evading evasion illegal* illegally unlawful illicit* tax_evasion ponzi pyramid stalk* stalking spy
        spying dox doxx* deepfake* defraud* tamper* sabotage* vandal* arson* hijack* piracy pirated poach*
        blackmarket black_market darkweb dark_web insider_trading cheat cheating manipulat* deceiv*
        deceive exploit exploiting child_labor slave slavery forced underage
    """,
    "drug": """
        drug drugs cocaine heroin meth methamphetamine* lsd mdma ecstasy fentanyl opioid* opium crack weed
        marijuana cannabis ketamine steroids dealer dealing narcotic* overdose pills xanax adderall
        prescription
    """,
    "extremism": """
        terrorist* terrorism isis jihad* extremis* radicaliz* militia* insurrection* riot* coup propaganda
        recruit* bioweapon* chemical_weapon* nuclear dirty_bomb uranium virus pathogen*
    """,
    "ask": """
        how what where which explain describe tell give show teach write create make generate list provide
        develop draft suggest steps guide tutorial instructions manual plan ways best_way methods method
        strategy recipe help can_you could_you tips
    """,
    "stealth": """
        undetected detected detection untraceable traceable anonymously caught getting_caught get_away
        without secretly bypass evade avoid_detection hide hiding conceal* cover disguise* unnoticed
        untrace* police authorities law_enforcement
    """,
    "refusal": """
        sorry cannot can't unable apologize as_an ai_language assist i_cannot not_appropriate appropriate
        ethical legal consult professional* seek hotline therapist* illegal_and important_to remember
        harmful respect respectful inclusive
    """,
    "benign": """
        history historical museum film movie novel book article news report reported police court study
        research law laws prevent prevention protect safety awareness education* doctor hospital treatment
        medicine medical patient symptom* health therapy charity support game games recipe* cook cooking
        oven garden* software code function theorem
    """,
}
