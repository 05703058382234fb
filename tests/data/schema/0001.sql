BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE disk_attachments (
	id INTEGER NOT NULL, 
	image_version_id BIGINT NOT NULL, 
	role VARCHAR(32) NOT NULL, 
	position INTEGER NOT NULL, 
	device_name TEXT, 
	disk_category TEXT, 
	auto_delete BOOLEAN, 
	disk_type TEXT, 
	disk_size_gb BIGINT, 
	iops BIGINT, 
	throughput BIGINT, 
	snapshot_id TEXT, 
	encrypted BOOLEAN, 
	extra TEXT, 
	CONSTRAINT pk_disk_attachments PRIMARY KEY (id), 
	CONSTRAINT ck_disk_attachments_ck_disk_attachments_role CHECK (role in ('system', 'data')), 
	CONSTRAINT fk_disk_attachments_image_version_id_image_versions FOREIGN KEY(image_version_id) REFERENCES image_versions (id), 
	CONSTRAINT uq_disk_attachments_image_version_id_role_position UNIQUE (image_version_id, role, position)
);
INSERT INTO "disk_attachments" VALUES(1,1,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(2,1,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(3,2,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(4,2,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(5,3,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(6,3,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(7,4,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(8,4,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(9,5,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(10,5,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(11,6,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(12,6,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(13,7,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(14,7,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(15,8,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(16,8,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(17,9,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(18,9,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(19,10,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(20,11,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(21,12,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(22,13,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(23,14,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(24,15,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(25,16,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(26,17,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(27,18,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(28,19,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(29,19,'data',1,'vdb','cloud',1,'ssd.gp1',100,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(30,20,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(31,21,'system',0,'vda','cloud',1,'ssd.gp1',40,NULL,NULL,NULL,0,NULL);
INSERT INTO "disk_attachments" VALUES(32,21,'data',1,'vdb','cloud',1,'ssd.gp1',100,100,5,NULL,0,'{"cloudDisk":{"az":"a","diskId":"vol-1","encrypt":true}}');
INSERT INTO "disk_attachments" VALUES(33,21,'data',2,'vdc','local',NULL,'hdd',5,NULL,NULL,NULL,NULL,'{"unknown":[1]}');
CREATE TABLE image_members (
	id INTEGER NOT NULL, 
	member_version_id BIGINT NOT NULL, 
	position INTEGER NOT NULL, 
	pin TEXT NOT NULL, 
	login_name TEXT, 
	CONSTRAINT pk_image_members PRIMARY KEY (id), 
	CONSTRAINT fk_image_members_member_version_id_member_versions FOREIGN KEY(member_version_id) REFERENCES member_versions (id), 
	CONSTRAINT uq_image_members_member_version_id_position UNIQUE (member_version_id, position)
);
INSERT INTO "image_members" VALUES(1,1,1,'a',NULL);
INSERT INTO "image_members" VALUES(2,1,2,'b',NULL);
INSERT INTO "image_members" VALUES(3,2,1,'a',NULL);
INSERT INTO "image_members" VALUES(4,2,2,'c',NULL);
INSERT INTO "image_members" VALUES(5,3,1,'a',NULL);
CREATE TABLE image_versions (
	id INTEGER NOT NULL, 
	image_pk BIGINT NOT NULL, 
	run_id BIGINT NOT NULL, 
	closed_run_id BIGINT, 
	account VARCHAR(64) NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	valid_from DATETIME NOT NULL, 
	valid_to DATETIME, 
	last_confirmed_at DATETIME, 
	fingerprint VARCHAR(64) NOT NULL, 
	payload TEXT NOT NULL, 
	name TEXT, 
	platform TEXT, 
	os_version TEXT, 
	architecture TEXT, 
	system_disk_size_gb BIGINT, 
	image_source TEXT, 
	os_type TEXT, 
	status TEXT, 
	create_time DATETIME, 
	size_mb BIGINT, 
	description TEXT, 
	owner_pin TEXT, 
	launch_permission TEXT, 
	snapshot_id TEXT, 
	root_device_type TEXT, 
	progress TEXT, 
	offline BOOLEAN, 
	uefi_support BOOLEAN, 
	imported BOOLEAN, 
	boot_mode TEXT, 
	expired_time DATETIME, 
	login_name TEXT, 
	extra TEXT, 
	CONSTRAINT pk_image_versions PRIMARY KEY (id), 
	CONSTRAINT ck_image_versions_ck_image_versions_closed_by CHECK ((valid_to is null) = (closed_run_id is null)), 
	CONSTRAINT ck_image_versions_ck_image_versions_period CHECK (valid_to is null or valid_to > valid_from), 
	CONSTRAINT fk_image_versions_closed_run_id_runs FOREIGN KEY(closed_run_id) REFERENCES runs (id), 
	CONSTRAINT fk_image_versions_image_pk_images FOREIGN KEY(image_pk) REFERENCES images (id), 
	CONSTRAINT fk_image_versions_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_image_versions_image_pk_valid_from UNIQUE (image_pk, valid_from)
);
INSERT INTO "image_versions" VALUES(1,1,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.001000',NULL,NULL,'717dc9e1bda5a04435f650ba1af79a1035d465c4b13ceae1ef1e37c3c9fe95a0','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-0","imageSource":"private","launchPermission":"ownerOnly","name":"image img-0","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-0","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-0','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-0','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(2,2,1,2,'default','cn-north-1','2026-01-01 01:00:00.002000','2026-01-01 02:00:00.021000','2026-01-01 01:00:00.002000','61b658bd11d965f5ebafd1c6d27b455faa53f8b0b8adfef19510e951032f946b','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-1","imageSource":"private","launchPermission":"ownerOnly","name":"image img-1","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-1","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-1','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-1','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(3,3,1,2,'default','cn-north-1','2026-01-01 01:00:00.003000','2026-01-01 02:00:00.022000','2026-01-01 01:00:00.003000','d9ba593e5fbb47f76183f55dcee5b57d8b0974df3137e05f0ddc1c72a70be69c','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-2","imageSource":"private","launchPermission":"ownerOnly","name":"image img-2","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-2","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-2','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-2','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(4,4,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.004000',NULL,NULL,'24d5fe0ce6637afaf499864c26507f291ed4e9da8488539d794a7a3531b59b73','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-3","imageSource":"private","launchPermission":"ownerOnly","name":"image img-3","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-3","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-3','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-3','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(5,5,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.005000',NULL,NULL,'9aa3dd7cfbcc485f95557a0b5f691fff0d0521d9cf0a9fad146d8afe76a962bf','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-4","imageSource":"private","launchPermission":"ownerOnly","name":"image img-4","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-4","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-4','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-4','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(6,6,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.006000',NULL,NULL,'765271046fb070bf71730bb05bb18cbf3e7a2ac8a37d42991c46fcd38ec65a07','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-5","imageSource":"private","launchPermission":"ownerOnly","name":"image img-5","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-5","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-5','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-5','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(7,7,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.007000',NULL,NULL,'0151820d021032cacb7c48f37793f91875004c9625748bab72a78e1ac6d6a09d','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-6","imageSource":"private","launchPermission":"ownerOnly","name":"image img-6","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-6","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-6','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-6','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(8,8,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.008000',NULL,NULL,'a791fb0ed6eb7a726966be983e8249d0800928b5a2135f20966f987342061711','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-7","imageSource":"private","launchPermission":"ownerOnly","name":"image img-7","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-7","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-7','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-7','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(9,9,1,NULL,'default','cn-north-1','2026-01-01 01:00:00.009000',NULL,NULL,'0d358dcef7a22be1b7f22084a4481064d564641ed3b77b8e4f169566bbbf8c0d','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-8","imageSource":"private","launchPermission":"ownerOnly","name":"image img-8","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-8","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-8','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-8','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(10,12,1,2,'default','cn-east-1','2026-01-01 01:00:00.012000','2026-01-01 02:00:00.029000','2026-01-01 01:00:00.012000','b9ade1b409efe72745b087de4363c7740c4f6a62b6202a8a5e599aeaa96b13cc','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-e0","imageSource":"private","launchPermission":"ownerOnly","name":"é\n\u0000位😀","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-e0","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','é
�位😀','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-e0','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(11,13,1,NULL,'default','cn-east-1','2026-01-01 01:00:00.013000',NULL,NULL,'3798f46bc079f2323ab4cb60a5866e0e74306dab3ec96b5cb1b790676f411964','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-e1","imageSource":"private","launchPermission":"ownerOnly","name":"é\n\u0000位😀","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-e1","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','é
�位😀','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-e1','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(12,14,1,2,'default','cn-east-1','2026-01-01 01:00:00.014000','2026-01-01 02:00:00.031000','2026-01-01 01:00:00.014000','05427fa869a9e6aa783f472e2617c0a80bc3981bce02f4ef6b528e28a6cb6170','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-e2","imageSource":"private","launchPermission":"ownerOnly","name":"é\n\u0000位😀","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-e2","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','é
�位😀','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-e2','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(13,15,1,3,'other','cn-north-1','2026-01-01 01:00:00.015000','2026-01-01 03:00:00.047000','2026-01-01 02:00:00.032000','9c35810e80c09a85d7fe8ab1caa1f1402481db91b0fb6af4e917a97bc96b4255','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-0","imageSource":"private","launchPermission":"ownerOnly","name":"image img-0","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-0","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-0','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-0','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(14,16,1,NULL,'other','cn-north-1','2026-01-01 01:00:00.016000',NULL,NULL,'6336c940c76aec40392b74e222d0d13f71f7feab49b898e31c5d93d10bf3f29d','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-1","imageSource":"private","launchPermission":"ownerOnly","name":"image img-1","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-1","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-1','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-1','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(15,17,1,NULL,'other','cn-north-1','2026-01-01 01:00:00.017000',NULL,NULL,'c528f31bdda498402c6527911edf13e7fcf2789c854c8f46716953ce7804f79a','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-2","imageSource":"private","launchPermission":"ownerOnly","name":"image img-2","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-2","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-2','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-2','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(16,18,1,NULL,'other','cn-north-1','2026-01-01 01:00:00.018000',NULL,NULL,'cc934f7cf2a48ac1775710626f6c82a738002847a21f1b3e7ae7c908cceb167f','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-3","imageSource":"private","launchPermission":"ownerOnly","name":"image img-3","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-3","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-3','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-3','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(17,2,2,3,'default','cn-north-1','2026-01-01 02:00:00.021000','2026-01-01 03:00:00.038000','2026-01-01 02:00:00.021000','9454f562fb5382b4a8a0df60c1407bc1e68312cb49924a76759321a525b4d192','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-1","imageSource":"private","launchPermission":"ownerOnly","name":"image img-1","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-1","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40,"uefiSupport":true}','image img-1','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-1','cloudDisk','100',NULL,1,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(18,14,2,NULL,'default','cn-east-1','2026-01-01 02:00:00.031000',NULL,NULL,'bc063760fd1c461c67de73dbd958e977f75d7ebce1e6002f8f06b340e3543631','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-e2","imageSource":"private","launchPermission":"ownerOnly","name":"image img-e2","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-e2","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-e2','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-e2','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(19,2,3,NULL,'default','cn-north-1','2026-01-01 03:00:00.038000',NULL,NULL,'61b658bd11d965f5ebafd1c6d27b455faa53f8b0b8adfef19510e951032f946b','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"diskSizeGB":100,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vdb","diskCategory":"cloud"}],"desc":"","imageId":"img-1","imageSource":"private","launchPermission":"ownerOnly","name":"image img-1","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-1","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-1','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-1','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(20,3,3,NULL,'default','cn-north-1','2026-01-01 03:00:00.039000',NULL,NULL,'c528f31bdda498402c6527911edf13e7fcf2789c854c8f46716953ce7804f79a','{"architecture":"x86_64","createTime":"2025-01-28 16:49:05","desc":"","imageId":"img-2","imageSource":"private","launchPermission":"ownerOnly","name":"image img-2","osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","sizeMB":2494,"snapshotId":"snapshot-img-2","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40}','image img-2','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-img-2','cloudDisk','100',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "image_versions" VALUES(21,19,4,NULL,'default','cn-north-1','2026-02-01 00:00:00.001000',NULL,NULL,'e8f6aff429df251a205862d05b6a3a92d411aad1746c75950b789fa69792f749','{"architecture":"x86_64","bootMode":"uefi","chargeInfo":{"formula":[{"key":"cpu","value":2.5}]},"createTime":"2025-01-28 16:49:05","dataDisks":[{"autoDelete":true,"cloudDisk":{"az":"a","diskId":"vol-1","diskSizeGB":100,"diskType":"ssd.gp1","encrypt":true,"encrypted":false,"iops":100,"throughput":5},"deviceName":"vdb","diskCategory":"cloud"},{"deviceName":"vdc","diskCategory":"local","localDisk":{"diskSizeGB":5,"diskType":"hdd"},"unknown":[1]}],"desc":"","expiredTime":"2035-01-28 16:49:05","imageId":"img-everything","imageSource":"private","imported":true,"instanceId":"i-1","launchPermission":"ownerOnly","loginName":"me","name":"image img-everything","offline":false,"osType":"linux","osVersion":"8.2","ownerPin":"owner","platform":"CentOS","progress":"100","rootDeviceType":"cloudDisk","serviceCode":"x","sizeMB":"2494","snapshotId":"snapshot-everything","status":"ready","systemDisk":{"autoDelete":true,"cloudDisk":{"diskSizeGB":40,"diskType":"ssd.gp1","encrypted":false},"deviceName":"vda","diskCategory":"cloud"},"systemDiskSizeGB":40,"uefiSupport":true,"unknown":{"a":"é"}}','image img-everything','CentOS','8.2','x86_64',40,'private','linux','ready','2025-01-28 08:49:05.000000',2494,'','owner','ownerOnly','snapshot-everything','cloudDisk','100',0,1,1,'uefi','2035-01-28 08:49:05.000000','me','{"chargeInfo":{"formula":[{"key":"cpu","value":2.5}]},"instanceId":"i-1","serviceCode":"x","unknown":{"a":"é"}}');
CREATE TABLE images (
	id INTEGER NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	image_id VARCHAR(64) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	first_planned_at DATETIME NOT NULL, 
	first_seen_at DATETIME, 
	last_seen_at DATETIME, 
	last_checked_at DATETIME, 
	gone_at DATETIME, 
	last_attempt_at DATETIME, 
	last_outcome VARCHAR(32), 
	failing_since DATETIME, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT ck_images_ck_images_state CHECK (state in ('present', 'gone', 'unknown')), 
	CONSTRAINT uq_images_account_region_image_id UNIQUE (account, region, image_id)
);
INSERT INTO "images" VALUES(1,'default','cn-north-1','img-0','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.001000','2026-01-01 03:00:00.037000','2026-01-01 03:00:00.037000',NULL,'2026-01-01 03:00:00.037000','present',NULL);
INSERT INTO "images" VALUES(2,'default','cn-north-1','img-1','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.002000','2026-01-01 03:00:00.038000','2026-01-01 03:00:00.038000',NULL,'2026-01-01 03:00:00.038000','present',NULL);
INSERT INTO "images" VALUES(3,'default','cn-north-1','img-2','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.003000','2026-01-01 03:00:00.039000','2026-01-01 03:00:00.039000',NULL,'2026-01-01 03:00:00.039000','present',NULL);
INSERT INTO "images" VALUES(4,'default','cn-north-1','img-3','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.004000','2026-01-01 03:00:00.040000','2026-01-01 03:00:00.040000',NULL,'2026-01-01 03:00:00.040000','present',NULL);
INSERT INTO "images" VALUES(5,'default','cn-north-1','img-4','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.005000','2026-01-01 03:00:00.041000','2026-01-01 03:00:00.041000',NULL,'2026-01-01 03:00:00.041000','present',NULL);
INSERT INTO "images" VALUES(6,'default','cn-north-1','img-5','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.006000','2026-01-01 03:00:00.042000','2026-01-01 03:00:00.042000',NULL,'2026-01-01 03:00:00.042000','present',NULL);
INSERT INTO "images" VALUES(7,'default','cn-north-1','img-6','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.007000','2026-01-01 03:00:00.043000','2026-01-01 03:00:00.043000',NULL,'2026-01-01 03:00:00.043000','present',NULL);
INSERT INTO "images" VALUES(8,'default','cn-north-1','img-7','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.008000','2026-01-01 03:00:00.044000','2026-01-01 03:00:00.044000',NULL,'2026-01-01 03:00:00.044000','present',NULL);
INSERT INTO "images" VALUES(9,'default','cn-north-1','img-8','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.009000','2026-01-01 03:00:00.045000','2026-01-01 03:00:00.045000',NULL,'2026-01-01 03:00:00.045000','present',NULL);
INSERT INTO "images" VALUES(10,'default','cn-north-1','img-never','unknown','2026-01-01 01:00:00.000000',NULL,NULL,NULL,NULL,'2026-01-01 03:00:00.046000','server_error','2026-01-01 01:00:00.010000');
INSERT INTO "images" VALUES(11,'default','cn-north-1','img-404','unknown','2026-01-01 01:00:00.000000',NULL,NULL,'2026-01-01 01:00:00.011000',NULL,'2026-01-01 01:00:00.011000','not_found',NULL);
INSERT INTO "images" VALUES(12,'default','cn-east-1','img-e0','gone','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.012000','2026-01-01 01:00:00.012000','2026-01-01 02:00:00.029000','2026-01-01 02:00:00.029000','2026-01-01 02:00:00.029000','not_found',NULL);
INSERT INTO "images" VALUES(13,'default','cn-east-1','img-e1','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.013000','2026-01-01 01:00:00.013000','2026-01-01 01:00:00.013000',NULL,'2026-01-01 02:00:00.030000','timeout','2026-01-01 02:00:00.030000');
INSERT INTO "images" VALUES(14,'default','cn-east-1','img-e2','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.014000','2026-01-01 02:00:00.031000','2026-01-01 02:00:00.031000',NULL,'2026-01-01 02:00:00.031000','present',NULL);
INSERT INTO "images" VALUES(15,'other','cn-north-1','img-0','gone','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.015000','2026-01-01 02:00:00.032000','2026-01-01 03:00:00.047000','2026-01-01 03:00:00.047000','2026-01-01 03:00:00.047000','not_found',NULL);
INSERT INTO "images" VALUES(16,'other','cn-north-1','img-1','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.016000','2026-01-01 03:00:00.048000','2026-01-01 03:00:00.048000',NULL,'2026-01-01 03:00:00.048000','present',NULL);
INSERT INTO "images" VALUES(17,'other','cn-north-1','img-2','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.017000','2026-01-01 03:00:00.049000','2026-01-01 03:00:00.049000',NULL,'2026-01-01 03:00:00.049000','present',NULL);
INSERT INTO "images" VALUES(18,'other','cn-north-1','img-3','present','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.018000','2026-01-01 03:00:00.050000','2026-01-01 03:00:00.050000',NULL,'2026-01-01 03:00:00.050000','present',NULL);
INSERT INTO "images" VALUES(19,'default','cn-north-1','img-everything','present','2026-02-01 00:00:00.000000','2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000',NULL,'2026-02-01 00:00:00.001000','present',NULL);
CREATE TABLE lanes (
	id INTEGER NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_lanes PRIMARY KEY (id), 
	CONSTRAINT uq_lanes_account_region UNIQUE (account, region)
);
INSERT INTO "lanes" VALUES(1,'default','cn-north-1');
INSERT INTO "lanes" VALUES(2,'default','cn-east-1');
INSERT INTO "lanes" VALUES(3,'other','cn-north-1');
CREATE TABLE leases (
	name VARCHAR(64) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	holder TEXT NOT NULL, 
	boot_id VARCHAR(128) NOT NULL, 
	pid BIGINT NOT NULL, 
	pid_started BIGINT NOT NULL, 
	token BIGINT NOT NULL, 
	expires DATETIME NOT NULL, 
	free_at DATETIME NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
CREATE TABLE ledger (
	seq BIGINT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	run_id BIGINT, 
	content TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_ledger PRIMARY KEY (seq), 
	CONSTRAINT fk_ledger_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_ledger_run_id UNIQUE (run_id)
);
INSERT INTO "ledger" VALUES(1,'run',1,'{"config_digest":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","failed":1,"finished_at":"2026-01-01 01:00:00.019000","listings_failed":0,"new_versions":16,"not_found":1,"plan_digest":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp","planned":18,"planned_at":"2026-01-01 01:00:00.000000","present":16,"requests":0,"retries":0,"scope":"whole","started_at":"2026-01-01 01:00:00.000000","status":"partial","throttled":0,"time_zone":"Asia/Shanghai","tool_version":"0.1.0","trigger":"run","unchanged":0}','d720717e7b59dadb96303e416578cc65b2cb43078fd75f2bbaf11980aa89c3eb');
INSERT INTO "ledger" VALUES(2,'run',2,'{"config_digest":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","failed":1,"finished_at":"2026-01-01 02:00:00.036000","listings_failed":0,"new_versions":2,"not_found":2,"plan_digest":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp","planned":16,"planned_at":"2026-01-01 02:00:00.019000","present":13,"requests":0,"retries":0,"scope":"whole","started_at":"2026-01-01 02:00:00.019000","status":"partial","throttled":0,"time_zone":"Asia/Shanghai","tool_version":"0.1.0","trigger":"run","unchanged":11}','f03267362b6aeb3a3efdf5f9b8eedded09b4da3764f3dfd2b9b4108cc8f69af1');
INSERT INTO "ledger" VALUES(3,'run',3,'{"config_digest":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","failed":1,"finished_at":"2026-01-01 03:00:00.051000","listings_failed":0,"new_versions":2,"not_found":1,"plan_digest":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp","planned":14,"planned_at":"2026-01-01 03:00:00.036000","present":12,"requests":0,"retries":0,"scope":"whole","started_at":"2026-01-01 03:00:00.036000","status":"partial","throttled":0,"time_zone":"Asia/Shanghai","tool_version":"0.1.0","trigger":"run","unchanged":10}','3e4d4b76f35f2ea0c2051aadc01a6054fc37d240d5a9f28df2b59635a8084c8e');
INSERT INTO "ledger" VALUES(4,'run',4,'{"config_digest":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","failed":0,"finished_at":"2026-02-01 00:00:00.002000","listings_failed":0,"new_versions":1,"not_found":0,"plan_digest":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp","planned":1,"planned_at":"2026-02-01 00:00:00.000000","present":1,"requests":0,"retries":0,"scope":"whole","started_at":"2026-02-01 00:00:00.000000","status":"complete","throttled":0,"time_zone":"Asia/Shanghai","tool_version":"0.1.0","trigger":"run","unchanged":0}','9526f94141e43b6d184ebe3bbc9b7e37b50a3a4be8d50225998074a2a7571363');
CREATE TABLE ledger_head (
	id INTEGER NOT NULL, 
	seq BIGINT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_ledger_head PRIMARY KEY (id)
);
INSERT INTO "ledger_head" VALUES(1,4,'9526f94141e43b6d184ebe3bbc9b7e37b50a3a4be8d50225998074a2a7571363');
CREATE TABLE member_versions (
	id INTEGER NOT NULL, 
	image_pk BIGINT NOT NULL, 
	run_id BIGINT NOT NULL, 
	closed_run_id BIGINT, 
	valid_from DATETIME NOT NULL, 
	valid_to DATETIME, 
	last_confirmed_at DATETIME NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	payload TEXT NOT NULL, 
	CONSTRAINT pk_member_versions PRIMARY KEY (id), 
	CONSTRAINT ck_member_versions_ck_member_versions_period CHECK (valid_to is null or valid_to > valid_from), 
	CONSTRAINT fk_member_versions_closed_run_id_runs FOREIGN KEY(closed_run_id) REFERENCES runs (id), 
	CONSTRAINT fk_member_versions_image_pk_images FOREIGN KEY(image_pk) REFERENCES images (id), 
	CONSTRAINT fk_member_versions_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_member_versions_image_pk_valid_from UNIQUE (image_pk, valid_from)
);
INSERT INTO "member_versions" VALUES(1,15,1,2,'2026-01-01 01:00:00.015000','2026-01-01 02:00:00.032000','2026-01-01 01:00:00.015000','3c04e969672615bb33cbd4192b9e25bf0c1d9dea8263d418cfdd38132cc06595','{"pins":["a","b"]}');
INSERT INTO "member_versions" VALUES(2,15,2,3,'2026-01-01 02:00:00.032000','2026-01-01 03:00:00.047000','2026-01-01 02:00:00.032000','15b10c9f1198d66d5f1d6813ac225584d0fd4e8489d9dbc2175c02900eca1593','{"pins":["a","c"]}');
INSERT INTO "member_versions" VALUES(3,19,4,NULL,'2026-02-01 00:00:00.001000',NULL,'2026-02-01 00:00:00.001000','874778306c2e5a93190fad1f2c86ed67c84772eb658fe4370bd5b45bf197ab3d','{"pins":["a"]}');
CREATE TABLE observation_rows (
	run_id BIGINT NOT NULL, 
	lane_id BIGINT NOT NULL, 
	image_pk BIGINT NOT NULL, 
	outcome VARCHAR(32) NOT NULL, 
	http_status INTEGER, 
	error_code TEXT, 
	error_message TEXT, 
	request_id TEXT, 
	attempts INTEGER NOT NULL, 
	duration_ms BIGINT, 
	observed_at DATETIME, 
	members_outcome VARCHAR(32), 
	CONSTRAINT pk_observation_rows PRIMARY KEY (run_id, lane_id, image_pk), 
	CONSTRAINT fk_observation_rows_image_pk_images FOREIGN KEY(image_pk) REFERENCES images (id), 
	CONSTRAINT fk_observation_rows_lane_id_lanes FOREIGN KEY(lane_id) REFERENCES lanes (id), 
	CONSTRAINT fk_observation_rows_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "observation_rows" VALUES(1,1,1,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.001000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,2,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.002000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,3,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.003000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,4,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.004000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,5,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.005000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,6,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.006000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,7,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.007000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,8,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.008000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,9,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.009000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,10,'denied',403,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.010000',NULL);
INSERT INTO "observation_rows" VALUES(1,1,11,'not_found',404,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.011000',NULL);
INSERT INTO "observation_rows" VALUES(1,2,12,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.012000',NULL);
INSERT INTO "observation_rows" VALUES(1,2,13,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.013000',NULL);
INSERT INTO "observation_rows" VALUES(1,2,14,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.014000',NULL);
INSERT INTO "observation_rows" VALUES(1,3,15,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.015000','present');
INSERT INTO "observation_rows" VALUES(1,3,16,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.016000',NULL);
INSERT INTO "observation_rows" VALUES(1,3,17,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.017000',NULL);
INSERT INTO "observation_rows" VALUES(1,3,18,'present',200,NULL,NULL,'r',1,5,'2026-01-01 01:00:00.018000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,1,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.020000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,2,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.021000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,3,'not_found',404,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.022000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,4,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.023000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,5,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.024000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,6,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.025000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,7,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.026000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,8,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.027000',NULL);
INSERT INTO "observation_rows" VALUES(2,1,9,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.028000',NULL);
INSERT INTO "observation_rows" VALUES(2,2,12,'not_found',404,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.029000',NULL);
INSERT INTO "observation_rows" VALUES(2,2,13,'timeout',NULL,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.030000',NULL);
INSERT INTO "observation_rows" VALUES(2,2,14,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.031000',NULL);
INSERT INTO "observation_rows" VALUES(2,3,15,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.032000','present');
INSERT INTO "observation_rows" VALUES(2,3,16,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.033000',NULL);
INSERT INTO "observation_rows" VALUES(2,3,17,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.034000',NULL);
INSERT INTO "observation_rows" VALUES(2,3,18,'present',200,NULL,NULL,'r',1,5,'2026-01-01 02:00:00.035000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,1,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.037000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,2,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.038000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,3,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.039000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,4,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.040000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,5,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.041000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,6,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.042000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,7,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.043000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,8,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.044000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,9,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.045000',NULL);
INSERT INTO "observation_rows" VALUES(3,1,10,'server_error',NULL,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.046000',NULL);
INSERT INTO "observation_rows" VALUES(3,3,15,'not_found',404,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.047000',NULL);
INSERT INTO "observation_rows" VALUES(3,3,16,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.048000',NULL);
INSERT INTO "observation_rows" VALUES(3,3,17,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.049000',NULL);
INSERT INTO "observation_rows" VALUES(3,3,18,'present',200,NULL,NULL,'r',1,5,'2026-01-01 03:00:00.050000',NULL);
INSERT INTO "observation_rows" VALUES(4,1,19,'present',200,NULL,NULL,'r',1,5,'2026-02-01 00:00:00.001000','present');
CREATE TABLE queue_items (
	id INTEGER NOT NULL, 
	lane_id BIGINT NOT NULL, 
	image_id VARCHAR(64) NOT NULL, 
	deliveries INTEGER DEFAULT 0 NOT NULL, 
	added_at DATETIME NOT NULL, 
	ready_at DATETIME NOT NULL, 
	token BIGINT, 
	started_at DATETIME, 
	again BOOLEAN DEFAULT false NOT NULL, 
	dead_at DATETIME, 
	last_outcome VARCHAR(32), 
	last_error TEXT, 
	CONSTRAINT pk_queue_items PRIMARY KEY (id), 
	CONSTRAINT fk_queue_items_lane_id_lanes FOREIGN KEY(lane_id) REFERENCES lanes (id), 
	CONSTRAINT uq_queue_items_lane_id_image_id UNIQUE (lane_id, image_id)
);
CREATE TABLE run_blocks (
	run_id BIGINT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	first TEXT NOT NULL, 
	last TEXT NOT NULL, 
	row_count INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	locator VARCHAR(40) NOT NULL, 
	CONSTRAINT pk_run_blocks PRIMARY KEY (run_id, kind, number), 
	CONSTRAINT fk_run_blocks_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "run_blocks" VALUES(1,'lanes',0,'default/cn-east-1','other/cn-north-1',3,'5725a40946385b8e4a3099921e4bdab91ed369bb38d087c2e12968d4cd7bb14f','10c9129c4.942151b863157787');
INSERT INTO "run_blocks" VALUES(1,'observations',0,'default/cn-east-1/img-e0','other/cn-north-1/img-3',18,'f690f735be3f89f02ba960bec68a0e0b3e8091f0c63ce24dfd8dfc98986a7820','b0a83afb6.4946ab1d68a39025c');
INSERT INTO "run_blocks" VALUES(1,'opened',0,'default/cn-east-1/img-e0','other/cn-north-1/img-3',16,'c9fa18057560ef11d1596a9c1efe6002810573a9ef2b86029486e5351237448d','6ff208f60.40d634439518dcd11');
INSERT INTO "run_blocks" VALUES(1,'members_opened',0,'other/cn-north-1/img-0','other/cn-north-1/img-0',1,'294a335e63e6ffc1349172c84b4f24115131cf2e97f178dfc182787d8ff20207','96f2f1bf.58a46db8fee90376');
INSERT INTO "run_blocks" VALUES(2,'lanes',0,'default/cn-east-1','other/cn-north-1',3,'84ae865b8cf59554bb454412121b06669b831f39f926975d45e18c296c6272f6','10cd3aa20.99cfbedcd73a0fbf');
INSERT INTO "run_blocks" VALUES(2,'observations',0,'default/cn-east-1/img-e0','other/cn-north-1/img-3',16,'859038c3f146c06ef0330b9a451007002c8e063ead06d0da2b60b63848e49f90','91f31ebcc.457e38b62676fc70e');
INSERT INTO "run_blocks" VALUES(2,'opened',0,'default/cn-east-1/img-e2','default/cn-north-1/img-1',2,'3a3964ef226153a6dcff39dfc7b9057ea93eea2dd742327429d1e77b4833ce26','8617424d.2cbd5413b6c83db0');
INSERT INTO "run_blocks" VALUES(2,'closed',0,'default/cn-east-1/img-e0','default/cn-north-1/img-2',4,'7928e8da78f31cbd487052e869e17c70c649580f3da60c090595b3682d27fc5f','20e4cc597.b34daddcfed3518a');
INSERT INTO "run_blocks" VALUES(2,'members_opened',0,'other/cn-north-1/img-0','other/cn-north-1/img-0',1,'3a768e9241e17d35486286a49996cf5b17a25b6b89a9e3c1df71ce715bf5f9b6','113af9dc.a1e45c664c84a98');
INSERT INTO "run_blocks" VALUES(2,'members_closed',0,'other/cn-north-1/img-0','other/cn-north-1/img-0',1,'b9a3ed8e32670bb9ececa382c344ba61a5cd2751125e9144fcc340ef239fc47b','de022f49.825eeedafdffb6da');
INSERT INTO "run_blocks" VALUES(3,'lanes',0,'default/cn-north-1','other/cn-north-1',2,'43af26c0ba9666669a6d4e66af7bab4aa6f7f9a0386cadd557436cd4998af108','9e129364.86ba614d0bc04c44');
INSERT INTO "run_blocks" VALUES(3,'observations',0,'default/cn-north-1/img-0','other/cn-north-1/img-3',14,'b8b92418b79549611c865b8142de037c67a5e5651889d2b07dc7260fff94ba27','64f819eec.2c50a41bd2f05a472');
INSERT INTO "run_blocks" VALUES(3,'opened',0,'default/cn-north-1/img-1','default/cn-north-1/img-2',2,'271adf3639d0eb53ab34c34ebc295619e7dca82461da78cad346fd5903de81d9','5bdf2d10.21031085bfe3be0c');
INSERT INTO "run_blocks" VALUES(3,'closed',0,'default/cn-north-1/img-1','other/cn-north-1/img-0',2,'70a9c5844575a1b1d063c804f073de1f05987cf88fdb98cca8b4c4c0cb2eb144','16f4adbf4.878f1ca67fb97508');
INSERT INTO "run_blocks" VALUES(3,'members_closed',0,'other/cn-north-1/img-0','other/cn-north-1/img-0',1,'4300782a41db065fdaf1a955fd6a2e789e10a79f25c9166519f624b6cf12a579','f30e0fd9.8ebadfe6ea7c5c7a');
INSERT INTO "run_blocks" VALUES(4,'lanes',0,'default/cn-north-1','default/cn-north-1',1,'49ad90d245631a06344777070ac5c0f0509aad83fe62784f80fc8b02eb9227aa','8c103996.810bea594f6a57fc');
INSERT INTO "run_blocks" VALUES(4,'observations',0,'default/cn-north-1/img-everything','default/cn-north-1/img-everything',1,'469974ce7b0f75e40ec419a196308d1f772f60aa88add7e92d26ba55a0d88aa6','7dc388a5.4f256fa429185cc7');
INSERT INTO "run_blocks" VALUES(4,'opened',0,'default/cn-north-1/img-everything','default/cn-north-1/img-everything',1,'97a7fd34a7e8b4d1105f12e976ad9e1ff5679d195f6450f4dca14fe94b5b944c','7ec521c0.4fc78c81eb1c5740');
INSERT INTO "run_blocks" VALUES(4,'members_opened',0,'default/cn-north-1/img-everything','default/cn-north-1/img-everything',1,'09edea18e923cb2a316eee163cf7dd9362fdde16e5de7ff636716e70a133b5f5','def8788a.8c52229416abb54e');
CREATE TABLE run_lanes (
	run_id BIGINT NOT NULL, 
	lane_id BIGINT NOT NULL, 
	planned BIGINT DEFAULT 0 NOT NULL, 
	present BIGINT DEFAULT 0 NOT NULL, 
	not_found BIGINT DEFAULT 0 NOT NULL, 
	failed BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_run_lanes PRIMARY KEY (run_id, lane_id), 
	CONSTRAINT fk_run_lanes_lane_id_lanes FOREIGN KEY(lane_id) REFERENCES lanes (id), 
	CONSTRAINT fk_run_lanes_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "run_lanes" VALUES(1,1,11,9,1,1);
INSERT INTO "run_lanes" VALUES(1,2,3,3,0,0);
INSERT INTO "run_lanes" VALUES(1,3,4,4,0,0);
INSERT INTO "run_lanes" VALUES(2,1,9,8,1,0);
INSERT INTO "run_lanes" VALUES(2,2,3,1,1,1);
INSERT INTO "run_lanes" VALUES(2,3,4,4,0,0);
INSERT INTO "run_lanes" VALUES(3,1,10,9,0,1);
INSERT INTO "run_lanes" VALUES(3,3,4,3,1,0);
INSERT INTO "run_lanes" VALUES(4,1,1,1,0,0);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	"trigger" VARCHAR(32) NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	started_at DATETIME NOT NULL, 
	planned_at DATETIME, 
	finished_at DATETIME, 
	planned BIGINT DEFAULT 0 NOT NULL, 
	present BIGINT DEFAULT 0 NOT NULL, 
	not_found BIGINT DEFAULT 0 NOT NULL, 
	failed BIGINT DEFAULT 0 NOT NULL, 
	new_versions BIGINT DEFAULT 0 NOT NULL, 
	unchanged BIGINT DEFAULT 0 NOT NULL, 
	requests BIGINT DEFAULT 0 NOT NULL, 
	retries BIGINT DEFAULT 0 NOT NULL, 
	throttled BIGINT DEFAULT 0 NOT NULL, 
	listings_failed BIGINT DEFAULT 0 NOT NULL, 
	plan_digest VARCHAR(64) NOT NULL, 
	config_digest VARCHAR(64) NOT NULL, 
	digest VARCHAR(64), 
	tool_version VARCHAR(32) NOT NULL, 
	time_zone VARCHAR(64) NOT NULL, 
	account VARCHAR(64), 
	scope VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES(1,'run','partial','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.000000','2026-01-01 01:00:00.019000',18,16,1,1,16,0,0,0,0,0,'pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','d720717e7b59dadb96303e416578cc65b2cb43078fd75f2bbaf11980aa89c3eb','0.1.0','Asia/Shanghai',NULL,'whole');
INSERT INTO "runs" VALUES(2,'run','partial','2026-01-01 02:00:00.019000','2026-01-01 02:00:00.019000','2026-01-01 02:00:00.036000',16,13,2,1,2,11,0,0,0,0,'pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','f03267362b6aeb3a3efdf5f9b8eedded09b4da3764f3dfd2b9b4108cc8f69af1','0.1.0','Asia/Shanghai',NULL,'whole');
INSERT INTO "runs" VALUES(3,'run','partial','2026-01-01 03:00:00.036000','2026-01-01 03:00:00.036000','2026-01-01 03:00:00.051000',14,12,1,1,2,10,0,0,0,0,'pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','3e4d4b76f35f2ea0c2051aadc01a6054fc37d240d5a9f28df2b59635a8084c8e','0.1.0','Asia/Shanghai',NULL,'whole');
INSERT INTO "runs" VALUES(4,'run','complete','2026-02-01 00:00:00.000000','2026-02-01 00:00:00.000000','2026-02-01 00:00:00.002000',1,1,0,0,1,0,0,0,0,0,'pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','9526f94141e43b6d184ebe3bbc9b7e37b50a3a4be8d50225998074a2a7571363','0.1.0','Asia/Shanghai',NULL,'whole');
CREATE TABLE schema_drift (
	id VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	json_type VARCHAR(32) NOT NULL, 
	value TEXT, 
	first_seen_at DATETIME NOT NULL, 
	last_seen_at DATETIME NOT NULL, 
	seen BIGINT DEFAULT 0 NOT NULL, 
	example_image_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_schema_drift PRIMARY KEY (id)
);
INSERT INTO "schema_drift" VALUES('da025e6ad70b8696dcec505861948e9b366e0db7b25ff2079056734320335f77','image.name','string',NULL,'2026-01-01 01:00:00.012000','2026-01-01 01:00:00.014000',3,'img-e0');
INSERT INTO "schema_drift" VALUES('f27faac9de38922a0b2e4048545a42c2b04122d9718d512d4159e57cee884312','image.uefiSupport','boolean',NULL,'2026-01-01 02:00:00.021000','2026-02-01 00:00:00.001000',2,'img-1');
INSERT INTO "schema_drift" VALUES('098ccf008eae49f5acd35790eadab47d0590ff55c705fcbe92c57556d066be6a','image.dataDisks[].unknown','array',NULL,'2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000',1,'img-everything');
INSERT INTO "schema_drift" VALUES('25d0810e7831af5a1bd2c19f2d1a6f8dc3ec5310a61818e52295d59ff0935816','image.dataDisks[].cloudDisk.encrypt','boolean',NULL,'2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000',1,'img-everything');
INSERT INTO "schema_drift" VALUES('3aef18104c7777c8877876b01ff62cf879d7f32f4cd3f40768bca96914771578','image.unknown','object',NULL,'2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000',1,'img-everything');
INSERT INTO "schema_drift" VALUES('493201d5138fae2db8a1ea73a528ec056986feeeb7d62a38fef4e5b7c37245e0','image.sizeMB','string',NULL,'2026-02-01 00:00:00.001000','2026-02-01 00:00:00.001000',1,'img-everything');
CREATE INDEX ix_runs_plan_digest ON runs (plan_digest);
CREATE INDEX ix_runs_status_finished_at ON runs (status, finished_at);
CREATE INDEX ix_image_versions_as_of ON image_versions (region, account, valid_from, valid_to);
CREATE INDEX ix_image_versions_closed_run_id ON image_versions (closed_run_id);
CREATE INDEX ix_image_versions_image_pk_valid_to ON image_versions (image_pk, valid_to);
CREATE INDEX ix_image_versions_run_id ON image_versions (run_id);
CREATE INDEX ix_image_versions_valid_from ON image_versions (valid_from);
CREATE INDEX ix_image_versions_valid_to ON image_versions (valid_to);
CREATE UNIQUE INDEX uq_image_versions_open ON image_versions (image_pk) WHERE valid_to IS NULL;
CREATE INDEX ix_member_versions_closed_run_id ON member_versions (closed_run_id);
CREATE INDEX ix_member_versions_image_pk_valid_to ON member_versions (image_pk, valid_to);
CREATE INDEX ix_member_versions_run_id ON member_versions (run_id);
CREATE INDEX ix_member_versions_valid_from ON member_versions (valid_from);
CREATE INDEX ix_member_versions_valid_to ON member_versions (valid_to);
CREATE INDEX ix_queue_items_ready ON queue_items (lane_id, dead_at, ready_at);
COMMIT;
